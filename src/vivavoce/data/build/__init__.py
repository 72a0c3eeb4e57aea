"""Making data: builders, the pipelines that chain them, and the engines that run pipelines.

The tables name what a pipeline's YAML may use. A builder or source is a class as `contract.py` describes.

| folder | what is in it |
|---|---|
| `engines/` | what runs pipelines: blocks that survive a kill, processes, Ray, quarantine |
| `speech/` | texts become speech: voices, moods, instructions, conversations |
| `spans/` | text partly replaced by speech: word times and cuts |
| `texts/` | what language models and translators write |
| `mining/` | requests and responses in long recordings |
| `sounds/` | noise, rooms, telephones, codecs |
| `descriptions/` | how recordings sound, measured and told |
"""

from vivavoce.base.registry import Registry

BUILDERS = Registry(
    "builder",
    {
        "ask": "vivavoce.data.build.texts.ask:Ask",
        "augment": "vivavoce.data.build.sounds.augment:Augment",
        "continue": "vivavoce.data.build.texts.continuations:Continue",
        "converse": "vivavoce.data.build.speech.converse:Converse",
        "describe": "vivavoce.data.build.descriptions.describe:Describe",
        "instruct": "vivavoce.data.build.speech.instruct:Instruct",
        "interleave": "vivavoce.data.build.spans.interleave:Interleave",
        "judge": "vivavoce.data.build.texts.judge:Judge",
        "mine": "vivavoce.data.build.mining.mine:Mine",
        "speak": "vivavoce.data.build.speech.speak:Speak",
        "tokenize": "vivavoce.data.build.tokenize:Tokenize",
        "trajectory": "vivavoce.data.build.texts.trajectory:Trajectory",
        "translate": "vivavoce.data.build.texts.translate:Translate",
    },
    group="vivavoce.builders",
)

SOURCES = Registry(
    "source",
    {
        "text": "vivavoce.data.build.sources:TextSource",
        "rows": "vivavoce.data.build.sources:RowsSource",
        "recordings": "vivavoce.data.build.sources:RecordingsSource",
    },
    group="vivavoce.sources",
)
