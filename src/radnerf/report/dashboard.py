"""A W&B report of runs that are in W&B: python -m radnerf.report DIR --push [ENTITY/]PROJECT"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from radnerf.errors import UserError
from radnerf.loggers import has_key
from radnerf.report.page import number
from radnerf.report.runs import Group, Run

CURVES = ("head/psnr", "lips/psnr", "torso/psnr", "joint/psnr")
MEDIA = ("test/strip", "test/video", "preview/joint", "preview/head")


def dashboard(
    place: tuple[str, str],
    runs: Sequence[Run],
    groups: Sequence[Group],
    metrics: Sequence[str],
    title: str,
) -> Any:
    """A wandb_workspaces report: table, bars, curves, pictures and videos of the runs.

    Args:
        place: entity and project of the runs in W&B.
        runs: found in W&B by their sweeps, those outside a sweep by their names.
    """
    import wandb_workspaces.reports.v2 as wr

    entity, project = place
    sweeps = sorted({run.sweep for run in runs if run.sweep})
    alone = sorted(run.name for run in runs if not run.sweep)
    chosen = [("group", sweep) for sweep in sweeps] + [("displayName", name) for name in alone]
    sets = [
        wr.Runset(
            entity=entity, project=project, name=value, filters=f"Metric('{key}') = '{value}'"
        )
        for key, value in chosen
    ]
    present = [metric for metric in metrics if any(one.values(metric) for one in groups)]
    bars: list[Any] = [wr.BarPlot(title=name, metrics=[f"test/{name}"]) for name in present]
    curves: list[Any] = [
        wr.LinePlot(title=name, x="trainer/global_step", y=[name], smoothing_factor=0.6)
        for name in CURVES
    ]
    return wr.Report(
        entity=entity,
        project=project,
        title=title[:128],
        description="Made by python -m radnerf.report",
        width="fluid",
        blocks=[
            wr.MarkdownBlock(text=_table(groups, present)),
            wr.H2(text="Figures of the test"),
            wr.PanelGrid(runsets=sets, panels=bars),
            wr.H2(text="Training"),
            wr.PanelGrid(runsets=sets, panels=curves),
            wr.H2(text="Pictures and videos"),
            wr.PanelGrid(runsets=sets, panels=[wr.MediaBrowser(media_keys=[key]) for key in MEDIA]),
            wr.H2(text="What differs"),
            wr.PanelGrid(runsets=sets, panels=[wr.RunComparer(diff_only=True)]),
        ],
    )


def push(
    where: str, runs: Sequence[Run], groups: Sequence[Group], metrics: Sequence[str], title: str
) -> str:
    """Make the report in W&B and return its address.

    Args:
        where: PROJECT, or ENTITY/PROJECT.

    Raises:
        UserError: no package, no key or no network.
    """
    if find_spec("wandb_workspaces") is None:
        raise UserError("--push needs the package: pip install 'radnerf[dashboard]'.")
    if not has_key():
        raise UserError("--push needs a W&B account: run `wandb login`, or set WANDB_API_KEY.")
    import requests
    import wandb

    entity, _, project = where.rpartition("/")
    try:
        entity = entity or str(wandb.Api().default_entity)
        report = dashboard((entity, project), runs, groups, metrics, title)
        return str(report.save().url)
    except (requests.RequestException, wandb.Error, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The W&B report in {where} cannot be made ({reason}).") from error


def _table(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    lines = [["what", "runs", *metrics], ["---"] * (len(metrics) + 2)]
    for one in groups:
        cells = [one.label.replace("|", "\\|"), str(len(one.runs))]
        for metric in metrics:
            mean, std = one.mean(metric), one.std(metric)
            text = "–" if mean is None else number(mean)
            cells.append(text if std is None else f"{text} ± {number(std)}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
