"""Small sizes, by their names in configurations."""

from __future__ import annotations

import re
from typing import Any

VOCABULARY = 100
CLASSES = 4
LAYERS = 2
PATTERN = 4  # blocks of a model with several kinds of them, so that each kind occurs
BLOCKS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads")
# Sizes that are set even if a configuration leaves them open.
NEEDED = ("vocab_size", "head_dim", "num_key_value_heads", "num_experts_per_tok")
WIDTHS = ("hidden_sizes", "conv_dim", "embed_dim")  # lists with one number a stage, reduced in proportion
LISTS = ("image_size", "intermediate_size", "depth", "depths")  # lists of equal sizes
UNSET: Any = ...
TOKENS = {"pad": 1, "bos": 2, "eos": 3, "decoder_start": 2, "sep": 4, "cls": 5, "mask": 6, "unk": 7, "forced_eos": 3}
FIRST_WORD, END_OF_WORDS = 10, 60  # ordinary ids; images' and audio clips' own come after

_BY_VALUE: dict[Any, str] = {
    VOCABULARY: """vocab_size src_vocab_size tgt_vocab_size vocab_size_per_layer_input audio_vocab_size
        char_vocab_size t2u_vocab_size unit_hifi_gan_vocab_size encoder_hash_byte_group_vocab max_relative_length
        pronunciation_vocab_size shape_vocab_size entity_vocab_size num_hash_buckets ngram_vocab_size_base
        text_encoder_vocab_size codebook_vocab_size""",
    32: """hidden_size d_model dim width embed_dim n_embd embedding_size embedding_dim projection_dim projection_size
        pooler_output_size word_embed_proj_dim output_hidden_size emb_dim true_hidden_size decoder_hidden_size
        hidden_size_global input_embedding_size output_embedding_size pooler_hidden_size
        out_hidden_size adapter_in_dim adapter_out_dim encoder_hidden_size text_hidden_size pred_hidden_size d_latents
        pronunciation_embed_dim shape_embed_dim codebook_dim lru_width classifier_proj_size hidden_dim_size
        vision_output_dim prediction_head_size speech_encoder_hidden_size audio_hidden_size
        t2u_variance_predictor_embed_dim unit_embed_dim lang_embed_dim spkr_embed_dim backbone_hidden_size
        codevector_dim proj_codevector_dim xvector_output_dim num_codevectors_per_group upsample_initial_channel
        conv_output_size downsample_hidden_size vector_quantization_hidden_dimension output_num_channels
        router_hidden_size entity_emb_size nemo_conv_channels ext_pw_out_channel depthwise_separable_out_channel
        upsample_groups""",
    64: """intermediate_size encoder_ffn_dim decoder_ffn_dim ffn_dim d_ff d_inner ffn_hidden_size dff dim_ff hidden_dim
        moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size feed_forward_size
        moe_shared_expert_intermediate_size shared_experts_intermediate_size decoder_intermediate_size n_inner
        mlp_dim expert_ffn_hidden_size speech_encoder_intermediate_size t2u_encoder_ffn_dim t2u_decoder_ffn_dim
        intermediate_size_mlp max_position_embeddings n_positions n_ctx max_seq_len
        model_max_length max_source_positions max_target_positions original_max_position_embeddings
        t2u_max_position_embeddings base_model_max_length max_sequence_length moe_latent_size mamba_d_ssm
        codebook_size image_size crop_size num_embeddings""",
    4: """num_attention_heads encoder_attention_heads decoder_attention_heads n_head n_heads num_heads heads
        attention_heads num_encoder_attention_heads num_decoder_attention_heads linear_num_heads swa_num_attention_heads
        index_n_heads mamba_n_heads num_local_experts num_experts n_routed_experts moe_num_experts
        speech_encoder_attention_heads t2u_encoder_attention_heads t2u_decoder_attention_heads num_routed_experts
        pred_num_attention_heads linear_num_value_heads linear_num_key_heads mamba_num_heads decoder_num_attention_heads
        num_memory_blocks num_filters zero_expert_num index_kpool text_encoder_n_ctx""",
    LAYERS: """num_hidden_layers encoder_layers decoder_layers n_layer n_layers num_layers num_encoder_layers
        num_decoder_layers depth depths num_blocks speech_encoder_layers t2u_encoder_layers t2u_decoder_layers
        num_spatial_layers pred_num_hidden_layers num_self_attends_per_block decoder_num_hidden_layers
        num_key_value_heads num_kv_heads num_experts_per_tok num_experts_per_token moe_topk moe_k moe_top_k
        num_conv_pos_embedding_groups swa_num_key_value_heads num_temporal_layers num_query_groups
        n_group num_expert_group n_groups num_codebooks text_encoder_num_layers group_detr num_frames
        frames_per_clip""",
    8: """head_dim d_kv d_head dim_head kv_channels qk_rope_head_dim v_head_dim qk_nope_head_dim linear_head_dim
        linear_key_head_dim linear_value_head_dim swa_head_dim attention_head_size index_head_dim mamba_d_state
        state_size ssm_state_size global_head_dim time_step_rank mamba_dt_rank query_pre_attn_scalar
        attention_window_size attention_window window_size local_attention keep_window_size sliding_window_size
        hidden_size_per_layer_input segment_means_seq_len num_landmarks num_latents index_topk
        mamba_chunk_size chunk_size d_rel rel_extent local_attention_window_len sliding_window patch_size
        encoder_stride num_queries latent_query_num two_stage_num_proposals""",
    1: "topk_group",
    16: """kv_lora_rank q_lora_rank o_lora_rank mamba_d_head mamba_headdim mamba_head_dim num_mel_bins
        num_conv_pos_embeddings lora_rank embedding_rank block_size hc_lowrank ple_embed_dim
        mm_tokens_per_image task_seq_len text_encoder_context_length""",
}  # fmt: skip
SIZES: dict[str, Any] = {name: size for size, names in _BY_VALUE.items() for name in names.split()}


# Sizes for models whose heads or parts have to be wider, and for those whose widths stay as they are.
def _wide(width: int, head: int) -> dict[str, Any]:
    heads = {name: head for name, size in SIZES.items() if size == 8 and re.search("head|kv", name)}
    return {**SIZES, **{name: width for name, size in SIZES.items() if size == 32}, **heads}


WIDE, WIDER = _wide(256, 64), _wide(512, 128)
SHALLOW: dict[str, Any] = {
    name: size
    for name, size in SIZES.items()
    if size in (LAYERS, VOCABULARY) and not re.search("head|group|codebook", name)
}
# What a few architectures need besides small sizes, by the model type of the configuration or of its part.
_SWIN = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6], "window_size": 4, "patch_size": 4}
_HGNET = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 32, 64],
    "stage_mid_channels": [8, 8, 16, 32],
    "stage_out_channels": [16, 32, 64, 128],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "hidden_sizes": [16, 32, 64, 128],
}
EXTRA: dict[str, dict[str, Any]] = {
    # sizes that must agree with each other
    "align": {"projection_dim": 320},
    "align_vision_model": {"hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 0.1},
    "apertus1p5_vision_tokenizer": {"base_channels": 32},
    "bit": {"num_groups": 8},
    "bros": {"hidden_size": 128},
    "chameleon_vqgan": {"base_channels": 32},
    "codegen": {"rotary_dim": 4},
    "cvt": {"depth": UNSET},
    "d_fine": {"encoder_in_channels": [32, 64, 128], "decoder_in_channels": [32, 32, 32]},
    "deepseek_ocr2_sam_vision_model": {"downsample_channels": [32, 32]},
    "deimv2": {"encoder_in_channels": [32, 64, 128], "decoder_in_channels": [32, 32, 32]},
    "donut-swin": _SWIN,
    "emu3_vqgan": {"base_channels": 32, "hidden_size": 128},
    "efficientnet": {"hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 0.1},
    "FunAsrNanoAdaptorConfig": {"intermediate_size": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "inkling_text": {"logits_mup_width_multiplier": 1.0},
    "inkling_vision": {"patch_size": 2},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "input_size": 32},
    "levit": {"image_size": 224, "patch_size": 16},
    "llama4_vision_model": {"intermediate_size": 128, "projector_input_dim": 32, "projector_output_dim": 32},
    "lilt": {"hidden_size": 48},
    "mamba2": {"num_heads": 8},
    "mllama_vision_model": {"vision_output_dim": 192},
    "minicpmv4_6": {"insert_layer_id": 0},
    "minicpmv4_7": {"insert_layer_id": 0},
    "mobilebert": {"hidden_size": 64, "embedding_size": 32, "intra_bottleneck_size": 32},
    "mobilevit": {"hidden_sizes": UNSET},
    "muse_glimmer": {"out_hidden_size": 128},
    "muse_spark": {"out_hidden_size": 128},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds_dim": [8, 24],
        "axial_pos_shape": [4, 16],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 2,
        "hash_seed": 0,  # the same buckets in every pass
    },
    "sapiens2": {"num_key_value_heads_per_layer": UNSET},
    "swin": _SWIN,
    "swin backbone": {**_SWIN, "depths": [1, 1, 1, 1], "num_heads": [3, 6, 12, 24]},
    "swin2sr": {"depths": [2, 2], "num_heads": [4, 4]},
    "swinv2": _SWIN,
    "unlimited_ocr_sam_vision_model": {"downsample_channels": [32, 32]},
    "textnet": {"stem_out_channels": 8},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "chunk_size": 16},
    # to have some of each kind of block
    "bamba": {"attn_layer_indices": [1], "layer_types": UNSET},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "gemma3n_vision": {"architecture": "test_resnet.r160_in1k"},
    "hgnet_v2": _HGNET,
    "hgnet_v2 backbone": {**_HGNET, "out_indices": [2, 3, 4]},
    "timm_wrapper": {"architecture": "test_resnet.r160_in1k", "hidden_size": 96},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "dots3_note_text": {
        **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 4),
        **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank", "swa_head_dim"), 16),
        **dict.fromkeys(("swa_qk_nope_head_dim", "swa_v_head_dim"), 8),
    },
    "gemma3n_text": {"num_kv_shared_layers": 2},
    # settings that are open by default
    "blt": {"use_cache": False},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "dory": {
        **dict.fromkeys(("n_input_layers", "n_output_layers"), 1),
        "n_recurrent_layers": 2,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "glm_moe_dsa": {"index_topk": 16},  # among equal scores its choice depends on the padding
    "neomme": {"head_dim": 16},
    "patchtsmixer": {"num_targets": CLASSES},
    "patchtst": {"num_targets": CLASSES},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "xmod": {"default_language": "en_XX"},
}
# What a configuration leaves open, by its model type or the class of the model.
_FOUR_BLOCKS = {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]}
_GROUNDED = {  # with ids for the marks that part its phrases
    "text_config": {
        "model_type": "bert",
        **dict.fromkeys(("hidden_size", "intermediate_size"), 32),
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1100},
    }
}
_UNITS = {"t2u_pad_token_id": 1, "t2u_bos_token_id": 2, "t2u_eos_token_id": 3, "t2u_decoder_start_token_id": 2}
_CODES = 80  # ids of images' codes, behind those of words and special tokens
_DIGITS = str.maketrans("0123456789", "ABCDEFGHIJ")
OPEN: dict[str, dict[str, Any]] = {
    "BeitForSemanticSegmentation": _FOUR_BLOCKS,
    "Data2VecVisionForSemanticSegmentation": _FOUR_BLOCKS,
    "HieraForPreTraining": {"decoder_hidden_size": 32, "decoder_depth": 2, "decoder_num_heads": 4},
    "apertus1p5": {"image_token_offset": _CODES, "audio_token_offset": _CODES + 8},
    "apertus1p5_vision_tokenizer": {"codebook_size": 8},
    "aria": {"projector_patch_to_query_dict": {64: 8}},
    "chameleon": {
        "vocabulary_map": {
            "<image>": _CODES - 1,
            **{f"IMGIMG{str(code).translate(_DIGITS)}Z": _CODES + code for code in range(16)},
        }
    },
    "chameleon_vqgan": {"num_embeddings": 16},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"]},
    "depth_pro": {"patch_size": 64, "intermediate_hook_ids": [1, 0]},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "emu3": {
        "vocabulary_map": {
            "<image>": _CODES - 2,
            "<|extra_200|>": _CODES - 1,
            **{f"<|visual token {code:06d}|>": _CODES + code for code in range(16)},
        }
    },
    "emu3_vqgan": {"codebook_size": 16},
    "ernie4_5_vl_moe_text": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    },
    "granite4_vision": {"deepstack_layer_map": [[1, 0], [2, 1]], "downsample_rate": "2/4"},
    "grounding-dino": _GROUNDED,
    "mm-grounding-dino": _GROUNDED,
    "hunyuan_vl_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1, 1]}},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "moonshine_streaming": {"num_key_value_heads": 4},
    **{
        f"Sapiens2For{task}": {"head_config": {"upsample_out_channels": [16, 16], "conv_out_channels": [16, 16]}}
        for task in ("SemanticSegmentation", "NormalEstimation", "PointmapEstimation", "PoseEstimation", "ImageMatting")
    },
    "musicgen_decoder": {"decoder_start_token_id": 2},
    "musicgen_melody_decoder": {"decoder_start_token_id": 2},
    "perception_lm": {
        "vision_config": {
            "model_type": "timm_wrapper",
            "architecture": "test_vit.r160_in1k",
            "model_args": {"embed_dim": 64, "img_size": 64},
        }
    },
    "qwen2_5_omni_thinker": {"vision_start_token_id": 90, "vision_end_token_id": 91},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 90, "vision_end_token_id": 91},
    "seamless_m4t": _UNITS,
    "seamless_m4t_v2": _UNITS,
    "step3p5": {"sliding_window": 8},
    "wavtokenizer_encoder": {"codebook_size": 8},
    "vitmatte": {"fusion_hidden_sizes": [64, 32, 16, 8]},
}
# Architectures, or classes, in a mapping that are not trained as the family is, or whose batches cannot be judged.
UNFIT = {
    "gemma4_assistant": "drafts for another model, whose hidden states it is given",
    "gemma4_unified_assistant": "drafts for another model, whose hidden states it is given",
    "LxmertForQuestionAnswering": "chooses among answers to a question about an image, and finds no span",
    "MusicgenForCausalLM": "predicts codes of audio, several to a position, in as many rows",
    "MusicgenMelodyForCausalLM": "predicts codes of audio, several to a position, in as many rows",
    "molmo2": "counts the patches of all samples of a batch together, so that none can be exchanged alone",
    "pp_lcnet": "its forward takes no labels",
    "shieldgemma2": "answers yes or no to a prompt about an image, and takes no class",
    "voxtral_realtime": "needs audio in step with its text",
}
# Architectures with weights that are large enough already: larger ones would magnify rounding errors.
LARGE = ("levit",)
# The parts of configurations that have no defaults of their own.
PARTS: dict[str, dict[str, str]] = {"encoder-decoder": {"encoder": "bert", "decoder": "bert-generation"}}
# The length has to be a multiple of these numbers.
STEPS: dict[str, int] = {"mra": 32, "perceiver": 64, "reformer": 64}
