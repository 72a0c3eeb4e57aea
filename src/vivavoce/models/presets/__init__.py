"""Published models as configs of the one model class.

A ``TokenPreset`` looks at a plain causal LM whose tokenizer has audio tokens (theirs or ours) and says how it
hears and speaks; an ``EarsPreset`` reads and writes a published form of encoder and connector.
"""

from vivavoce.base.registry import Registry

# name -> object of class presets.preset:Preset
PRESETS = Registry(
    "preset",
    {
        "jan_llama3": "vivavoce.models.presets.jan_llama3:JAN_LLAMA3",
        "orpheus": "vivavoce.models.presets.orpheus:ORPHEUS",
        "salmonn": "vivavoce.models.presets.salmonn.preset:SALMONN",
        "ultravox": "vivavoce.models.presets.ultravox.preset:ULTRAVOX",
    },
    group="vivavoce.presets",
)
