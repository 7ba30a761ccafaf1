"""What this plugin provides: the data set `scenes` and what is measured of it."""

from transfuse.plugin import DataSet, Metric, Part, hookimpl

from transfuse_scenes.settings import ReadingSettings, ScenesSettings


def build_scenes(settings: ScenesSettings) -> DataSet:
    from transfuse_scenes.data_set import Scenes

    return Scenes(settings)


METRICS = {
    "scene_recall": ("SceneRecall", "what a parser reads in drawn scenes of what was asked for"),
    "scene_captions": ("SceneCaptions", "captions of scenes against their exact probability"),
    "scene_edits": ("SceneEdits", "edits of scenes done, and the rest kept"),
}
"""Each metric's class in `transfuse_scenes.metrics`, named so that listing it imports little."""


def metric(name: str) -> Part:
    class_name, summary = METRICS[name]

    def build(settings: ReadingSettings) -> Metric:
        from transfuse_scenes import metrics

        return getattr(metrics, class_name)(settings)

    return Part(name, ReadingSettings, build, summary)


@hookimpl
def transfuse_datasets() -> list[Part]:
    return [
        Part(
            "scenes",
            ScenesSettings,
            build_scenes,
            "coloured shapes with captions of known probability, endless",
        )
    ]


@hookimpl
def transfuse_metrics() -> list[Part]:
    return [metric(name) for name in METRICS]
