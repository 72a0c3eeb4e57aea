"""The table of data formats."""

from vivavoce.base.registry import Registry

# name -> class as in `contract.Format`; docs/data-formats.md has the same table with what each keeps
FORMATS = Registry(
    "data format",
    {
        "vivavoce": "vivavoce.data.convert.own:OwnFormat",
        "swift": "vivavoce.data.convert.swift:SwiftFormat",
        "openai": "vivavoce.data.convert.openai:OpenAIFormat",
        "sharegpt": "vivavoce.data.convert.sharegpt:ShareGPTFormat",
        "ultravox": "vivavoce.data.convert.ultravox:UltravoxFormat",
        "salmonn": "vivavoce.data.convert.salmonn:SalmonnFormat",
        "trajectory": "vivavoce.data.convert.trajectory:TrajectoryFormat",
        "lhotse": "vivavoce.data.convert.lhotse:LhotseFormat",
        "lhotse_shar": "vivavoce.data.convert.shar:SharFormat",
        "nemo": "vivavoce.data.convert.nemo:NemoFormat",
        "moshi": "vivavoce.data.convert.moshi:MoshiFormat",
        "orpheus": "vivavoce.data.convert.orpheus:OrpheusFormat",
        "snac_columns": "vivavoce.data.convert.snac_columns:SnacColumnsFormat",
        "instruction_speech": "vivavoce.data.convert.instruction_speech:InstructionSpeechFormat",
        "parler": "vivavoce.data.convert.parler:ParlerFormat",
        "webdataset": "vivavoce.data.convert.webdataset:WebDatasetFormat",
        "folder": "vivavoce.data.convert.folder:FolderFormat",
    },
    group="vivavoce.data_formats",
)
