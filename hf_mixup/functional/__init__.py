"""Pure tensor kernels of mixup: draw lam, pair samples, blend, cut and paste, attack, and mixed targets and losses.

Nothing here knows about models, trainers or batches: tensors in, tensors out, and every random draw takes a
``torch.Generator``. Drawing (`sample_lam`, `pair`, `cut_boxes`) and applying (`blend`, `cut`, `soft_targets`) are
separate, so that the same draw can be applied to several tensors, replayed, or fed in from elsewhere.

Throughout, ``partner`` is a long tensor [B]: sample ``i`` is mixed with sample ``partner[i]``; ``lam`` is the weight of
the *own* sample, in [0, 1].
"""

from .attacks import ascent_points as ascent_points
from .attacks import bounded as bounded
from .attacks import fgm as fgm
from .attacks import fgsm as fgsm
from .attacks import pgd as pgd
from .blending import blend as blend
from .contrastive import contrastive_cross_entropy as contrastive_cross_entropy
from .contrastive import cosine_overlap as cosine_overlap
from .contrastive import mix_rows as mix_rows
from .contrastive import pair_targets as pair_targets
from .contrastive import relevance_of as relevance_of
from .contrastive import soft_info_nce as soft_info_nce
from .contrastive import soft_sigmoid_loss as soft_sigmoid_loss
from .cutting import box_lam as box_lam
from .cutting import boxes_at as boxes_at
from .cutting import cut as cut
from .cutting import cut_boxes as cut_boxes
from .cutting import inside_boxes as inside_boxes
from .draws import pair as pair
from .draws import pair_by_confidence as pair_by_confidence
from .draws import pair_by_label_distance as pair_by_label_distance
from .draws import pair_by_length as pair_by_length
from .draws import sample_lam as sample_lam
from .geodesic import slerp as slerp
from .loudness import heard_weights as heard_weights
from .loudness import loudness as loudness
from .masks import enlarge_cells as enlarge_cells
from .masks import inside_bands as inside_bands
from .masks import keep_highest as keep_highest
from .masks import low_frequency_noise as low_frequency_noise
from .masks import mask_lam as mask_lam
from .masks import paste as paste
from .masks import seen_lam as seen_lam
from .masks import swap_columns as swap_columns
from .mosaic import mosaic as mosaic
from .mosaic import quadrant_shares as quadrant_shares
from .mosaic import quadrants as quadrants
from .resizing import boxes_inside as boxes_inside
from .resizing import paste_nearest as paste_nearest
from .resizing import paste_resized as paste_resized
from .reversal import reverse_gradient as reverse_gradient
from .saliency import most_salient as most_salient
from .saliency import smooth_saliency as smooth_saliency
from .saliency import spectral_residual as spectral_residual
from .targets import soft_cross_entropy as soft_cross_entropy
from .targets import soft_targets as soft_targets
from .tokens import token_losses as token_losses
from .tokens import two_target_cross_entropy as two_target_cross_entropy
