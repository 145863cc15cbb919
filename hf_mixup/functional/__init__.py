"""Pure tensor kernels of mixup: draw lam, pair samples, blend, cut and paste, attack, and mixed targets and losses.

Nothing here knows about models, trainers or batches: tensors in, tensors out, and every random draw takes a
``torch.Generator``. Drawing (`sample_lam`, `pair`, `cut_boxes`) and applying (`blend`, `cut`, `soft_targets`) are
separate, so that the same draw can be applied to several tensors, replayed, or fed in from elsewhere.

Throughout, ``partner`` is a long tensor [B]: sample ``i`` is mixed with sample ``partner[i]``; ``lam`` is the weight of
the *own* sample, in [0, 1].
"""

from .attacks import ascent_points, fgm, fgsm, pgd
from .blending import blend
from .contrastive import (
    contrastive_cross_entropy,
    cosine_overlap,
    mix_rows,
    pair_targets,
    relevance_of,
    soft_info_nce,
    soft_sigmoid_loss,
)
from .cutting import box_lam, boxes_at, cut, cut_boxes, inside_boxes
from .draws import pair, pair_by_confidence, pair_by_label_distance, pair_by_length, sample_lam
from .geodesic import slerp
from .loudness import heard_weights, loudness
from .masks import (
    enlarge_cells,
    inside_bands,
    keep_highest,
    low_frequency_noise,
    mask_lam,
    paste,
    seen_lam,
    swap_columns,
)
from .mosaic import mosaic, quadrant_shares, quadrants
from .resizing import boxes_inside, paste_nearest, paste_resized
from .saliency import most_salient, smooth_saliency, spectral_residual
from .targets import soft_cross_entropy, soft_targets
from .tokens import token_losses, two_target_cross_entropy

__all__ = [
    "ascent_points",
    "blend",
    "box_lam",
    "boxes_at",
    "boxes_inside",
    "contrastive_cross_entropy",
    "cosine_overlap",
    "cut",
    "cut_boxes",
    "enlarge_cells",
    "fgm",
    "fgsm",
    "heard_weights",
    "inside_bands",
    "inside_boxes",
    "keep_highest",
    "loudness",
    "low_frequency_noise",
    "mask_lam",
    "mix_rows",
    "mosaic",
    "most_salient",
    "pair",
    "pair_by_confidence",
    "pair_by_label_distance",
    "pair_by_length",
    "pair_targets",
    "paste",
    "paste_nearest",
    "paste_resized",
    "pgd",
    "quadrant_shares",
    "quadrants",
    "relevance_of",
    "sample_lam",
    "seen_lam",
    "slerp",
    "smooth_saliency",
    "soft_cross_entropy",
    "soft_info_nce",
    "soft_sigmoid_loss",
    "soft_targets",
    "spectral_residual",
    "swap_columns",
    "token_losses",
    "two_target_cross_entropy",
]
