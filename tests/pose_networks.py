"""Names and shapes of the tensors of published keypoint networks."""

from __future__ import annotations

from seeded_weights import published_keys

PARE = published_keys("pare", "backbone.")
HRNET = {key: shape for key, shape in PARE.items() if not key.startswith(("upsample", "stage4.2.fuse_layers."))}
HRNET |= {key: shape for key, shape in PARE.items() if key.startswith("stage4.2.fuse_layers.0.")}
HRNET |= {"final_layer.weight": (17, 32, 1, 1), "final_layer.bias": (17,)}


def vit_shapes(width: int = 96, depth: int = 2, simple: bool = False) -> dict[str, tuple[int, ...]]:
    """The published names; the width of the network on which HMR 2.0's outputs are stored, for speed."""
    block = {
        "norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
        "norm2.weight": (width,), "norm2.bias": (width,), "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,), "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.pos_embed": (1, 193, width), "backbone.patch_embed.proj.weight": (width, 3, 16, 16),
        "backbone.patch_embed.proj.bias": (width,), "backbone.last_norm.weight": (width,),
        "backbone.last_norm.bias": (width,), "keypoint_head.final_layer.bias": (17,),
        "keypoint_head.final_layer.weight": (17, width, 3, 3) if simple else (17, 256, 1, 1),
    }  # fmt: skip
    shapes |= {f"backbone.blocks.{b}.{key}": shape for b in range(depth) for key, shape in block.items()}
    for layer, inputs in ((0, width), (3, 256)) if not simple else ():
        shapes[f"keypoint_head.deconv_layers.{layer}.weight"] = (inputs, 256, 4, 4)
        norm = f"keypoint_head.deconv_layers.{layer + 1}"
        shapes |= {f"{norm}.{key}": (256,) for key in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes
