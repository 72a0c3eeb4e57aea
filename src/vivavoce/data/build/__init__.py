"""Making data: builders, the pipelines that chain them, and the engines that run pipelines.

The tables name what a pipeline's YAML may use. A builder or source is a class as `contract.py` describes.
"""

from vivavoce.base.registry import Registry

BUILDERS = Registry(
    "builder",
    {
        "ask": "vivavoce.data.build.ask:Ask",
        "augment": "vivavoce.data.build.augment:Augment",
        "continue": "vivavoce.data.build.continuations:Continue",
        "converse": "vivavoce.data.build.converse:Converse",
        "describe": "vivavoce.data.build.describe:Describe",
        "instruct": "vivavoce.data.build.instruct:Instruct",
        "interleave": "vivavoce.data.build.interleave:Interleave",
        "judge": "vivavoce.data.build.judge:Judge",
        "mine": "vivavoce.data.build.mine:Mine",
        "speak": "vivavoce.data.build.speak:Speak",
        "tokenize": "vivavoce.data.build.tokenize:Tokenize",
        "trajectory": "vivavoce.data.build.trajectory:Trajectory",
        "translate": "vivavoce.data.build.translate:Translate",
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
