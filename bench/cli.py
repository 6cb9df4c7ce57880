"""The command line. Commands are thin: they read arguments, call one function, and show what it returns."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from bench import data_command, train_command
from bench.errors import RunError, UsageError
from bench.evaluating import command as evaluate_command
from bench.options import DtypeName, writable
from bench.placing import command as placing_command

if TYPE_CHECKING:
    from bench.systems.registry import Registry

app = typer.Typer(
    name="foveabench",
    help="What video action recognition really costs: operations, counted layer by layer and executed frame by frame.",
    epilog="Examples: foveabench reproduce · foveabench flops san19 --size 112 --by stage · "
    "foveabench stream clip.mp4 --system epic/s3-t4",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing what draws help in boxes takes longer than all else that help needs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
INTERRUPTED = 130
PICTURES = (".png", ".svg", ".pdf")


class Convention(str, Enum):
    """How operations are counted."""

    exact = "exact"
    paper = "paper"
    fvcore = "fvcore"
    thop = "thop"
    torch = "torch"


class StageConvention(str, Enum):
    """How operations are counted stage by stage."""

    exact = "exact"
    paper = "paper"


class By(str, Enum):
    """How a count is broken down."""

    layer = "layer"
    stage = "stage"
    op = "op"


class Modality(str, Enum):
    """What a bare backbone looks at."""

    rgb = "rgb"
    spec = "spec"
    flow = "flow"


class FixedPolicy(str, Enum):
    """Policies whose shares of frames are known without a video."""

    published = "published"
    always_full = "always-full"


def _picture(path: Path | None) -> Path | None:
    """Refuse a picture that cannot be written, before the work is done."""
    if path is not None:
        if path.suffix.lower() not in PICTURES:
            raise UsageError(f"--figure {path}: the name must end in {', '.join(PICTURES)}")
        if path.is_dir():
            raise RunError(f"cannot write {path}: it is a folder")
        writable(path.parent)
    return path


def _page(path: Path | None) -> Path | None:
    """Refuse a page that cannot be written, before the work is done."""
    if path is not None:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--out {path}: the name must end in .html")
        if path.is_dir():
            raise RunError(f"cannot write {path}: it is a folder")
        writable(path.parent)
    return path


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Adapter = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads annotations when the program runs)
    typer.Option("--adapter", help="A system of your own: module:name or path/to/file.py:name. May be repeated."),
]
Machine = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--machine", help="Whose measurements: a folder in OUT/records; that of most records if not given."),
]
Weights = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        help="Folder of trained parts, or checkpoint of the whole; else those that come with a system, or random ones."
    ),
]
Out = Annotated[Path, typer.Option("--out", callback=writable, help="Folder for the results.")]


def systems(adapters: list[str] | None) -> Registry:
    """All systems: built in, installed, and given on the command line."""
    from bench.display import note
    from bench.systems.builtin import registry

    found = registry(adapters or ())
    for problem in found.problems:
        note(f"warning: {problem}")
    return found


@app.command("list")
def list_systems(json: Json = False, adapter: Adapter = None) -> None:
    """List what can be counted and run.

    Example: foveabench list
    """
    from bench.display import print_json
    from bench.views import describe, show_systems

    found = list(systems(adapter))
    print_json([describe(system) for system in found]) if json else show_systems(found)


@app.command()
def flops(
    system: Annotated[str, typer.Argument(help="A system or backbone: see `foveabench list`.")],
    size: Annotated[Optional[int], typer.Option(help="Side of a backbone's input in pixels.")] = None,  # noqa: UP045
    modality: Annotated[Optional[Modality], typer.Option(help="What a backbone looks at.")] = None,  # noqa: UP045
    convention: Annotated[Convention, typer.Option(help="How to count.")] = Convention.exact,
    by: Annotated[By, typer.Option(help="How to break the count down.")] = By.layer,
    policy: Annotated[
        FixedPolicy, typer.Option(help="Whose shares weigh the stages of an adaptive system.")
    ] = FixedPolicy.published,
    check: Annotated[bool, typer.Option("--cross-check", help="Compare with fvcore, thop and torch.")] = False,
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Count the operations of a system or backbone.

    `exact` counts everything, two per multiply-accumulate; `paper` counts what the published tables count.

    Examples: foveabench flops san19 --size 112 --convention paper · foveabench flops epic/s3-t4 --by stage
    """
    from bench.systems.builtin import resized

    found = resized(systems(adapter).find(system), size, modality.value if modality else None)

    from bench.display import print_json
    from bench.systems.costs import count_system, cross_check
    from bench.views import show_cost, show_cross_check

    if check:
        differences = cross_check(found)
        print_json([asdict(each) for each in differences]) if json else show_cross_check(found.id, differences)
        return
    cost = count_system(found, convention.value, policy.value)
    print_json(cost.to_json(by.value)) if json else show_cost(cost, by.value)


@app.command()
def stream(
    clip: Annotated[str, typer.Argument(help="A video, a folder or tar of its frames, or `demo`, made for you.")],
    system: Annotated[str, typer.Option(help="An adaptive system, such as epic/s3-t4.")],
    policy: Annotated[
        str, typer.Option(help="Who decides: published, learned, always-full, module:name or file.py:name.")
    ] = "published",
    weights: Weights = None,
    frames: Annotated[Optional[int], typer.Option(help="Frames to sample; else the workload's.")] = None,  # noqa: UP045
    convention: Annotated[StageConvention, typer.Option(help="How to count.")] = StageConvention.exact,
    device: Annotated[str, typer.Option(help="Where to run, as torch names it.")] = "cpu",
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(callback=_picture, help="Draw the clip's strip of decisions (png, svg, pdf)."),
    ] = None,
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Run a real video through an adaptive system, and show what was really computed.

    Examples: foveabench stream clip.mp4 --system epic/s3-t4 ·
    foveabench stream demo --system ucf101/s2-t3 --figure strip.png
    """
    found = systems(adapter).find(system)

    from bench.display import print_json
    from bench.streaming import open_clip, stream_clip
    from bench.views import frame_table, show_stream

    with open_clip(clip, found, frames) as video:
        with frame_table(silent=json) as on_frame:
            streamed = stream_clip(video, found, policy, weights, device, convention.value, on_frame)
        if figure is not None:
            from bench.reporting.strip import draw_strip

            draw_strip(streamed, figure)
    print_json(streamed.to_json()) if json else show_stream(streamed, figure)


class ScenarioName(str, Enum):
    """How clips arrive."""

    single_stream = "single-stream"
    offline = "offline"


class BackendName(str, Enum):
    """What runs the networks of a system."""

    eager = "eager"
    compile = "compile"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    cudagraphs = "cudagraphs"


@app.command()
def measure(
    names: Annotated[list[str], typer.Argument(help="Systems or backbones; patterns such as 'epic/*' will do.")],
    scenario: Annotated[
        ScenarioName, typer.Option(help="Frames of a video one after another, or batches of clips.")
    ] = ScenarioName.single_stream,
    device: Annotated[str, typer.Option(help="Where to run, as torch names it.")] = "cpu",
    dtype: Annotated[DtypeName, typer.Option(help="Of weights and inputs; int8 of weights.")] = DtypeName.float32,
    backend: Annotated[
        Optional[list[BackendName]],  # noqa: UP045
        typer.Option(help="What runs the networks, eager if not given. May be repeated."),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Who decides: published, learned, always-full, module:name or file.py:name.")
    ] = "published",
    clip: Annotated[
        str, typer.Option(help="A video, a folder or tar of its frames, a folder of such, or `demo`.")
    ] = "demo",
    frames: Annotated[Optional[int], typer.Option(help="Frames of a clip; else the workload's.")] = None,  # noqa: UP045
    batch: Annotated[Optional[list[int]], typer.Option(help="Clips at once, in offline. May be repeated.")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], typer.Option(help="Of torch; else the number of physical cores.")] = None,  # noqa: UP045
    width: Annotated[float, typer.Option(help="Wanted half-width of a median's 95 % interval, in per cent.")] = 2.0,
    budget: Annotated[float, typer.Option(help="Seconds of sampling for each case, at most.")] = 10.0,
    warmup: Annotated[float, typer.Option(help="Seconds of warm-up for each case, at most.")] = 5.0,
    energy: Annotated[float, typer.Option(help="Seconds for which energy is taken; 0 leaves it out.")] = 4.0,
    time_limit: Annotated[float, typer.Option(help="Seconds after which a case is given up.")] = 300.0,
    fps: Annotated[float, typer.Option(help="Frames per second of always-on video, for its Wh per hour.")] = 1.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="See where the time of a step goes, by stage and layer; in single-stream.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out what has been measured well before.")] = False,
    out: Annotated[Path, typer.Option("--out", callback=writable, help="Records go to OUT/records/<machine>.")] = Path(
        "results"
    ),
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Measure latency, throughput, memory and energy, each case in a process of its own.

    Every sample is kept in the case's record. Times converge to the wanted width, or the budget ends them. A profile
    runs what runs otherwise, fused layers as one; all profiles of a machine are in its profile.csv, too. How much a
    backend or type changes the outputs is measured with it; what a backend cannot run has a record that says why.

    Examples: foveabench measure epic/s3-t4 epic/s0 epic/san19-base ·
    foveabench measure 'ucf101/*' --scenario offline --batch 1 --batch 8 --resume ·
    foveabench measure ucf101/s2-t3 --profile ·
    foveabench measure san19 --backend eager --backend onnxruntime
    """
    if profile and scenario is not ScenarioName.single_stream:
        raise UsageError(f"--profile is of steps in single-stream, not of batches in {scenario.value}")
    backends = backend or [BackendName.eager]
    if profile and (others := [each.value for each in backends if each is not BackendName.eager]):
        raise UsageError(f"--profile sees layers of eager, not what is within --backend {', '.join(others)}")
    found = systems(adapter)

    from bench.display import note, print_json
    from bench.measuring.campaign import Campaign, settings
    from bench.measuring.cases import BATCHES, check_cases, chosen_systems, default_threads, machine_folder, make_cases
    from bench.measuring.show import CampaignProgress, show_records, summary

    chosen = chosen_systems(found, names)
    threads = default_threads() if threads is None else threads
    batches = batch or BATCHES
    cases = make_cases(
        *(chosen, scenario.value, device, dtype.value, policy, batches, frames, threads, clip),
        [each.value for each in backends],
    )
    check_cases(cases, chosen)
    campaign = Campaign(
        cases,
        replace(settings(width, budget, warmup, energy, time_limit), profile=profile),
        clip,
        [*map(str, adapter or ())],
        machine_folder(out, device),
    )
    with CampaignProgress(len(cases), budget * (1 + profile)).shown() as shown:
        records = campaign.run(resume, shown.on_case, shown.on_message, shown.on_record)
    if profile:
        from bench.records.measurement import read_records
        from bench.reporting.profiles import write_profiles

        write_profiles(read_records(campaign.folder, note), campaign.folder)
    print_json([summary(record, fps) for record in records]) if json else show_records(records, fps)
    failed = [record.case.system for record in records if record.status.state not in ("ok", "unsupported")]
    if failed:
        raise RunError(f"{len(failed)} of {len(records)} cases failed: {', '.join(failed)}")


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A system, a record, a folder of records, or a working tree.")],
    b: Annotated[str, typer.Argument(help="Another of the kind.")],
    live: Annotated[bool, typer.Option("--live", help="Run the systems of two records again, in turns.")] = False,
    system: Annotated[Optional[str], typer.Option(help="What to run in two working trees.")] = None,  # noqa: UP045
    seconds: Annotated[float, typer.Option(help="For how long two systems run in turns.")] = 30.0,
    restarts: Annotated[int, typer.Option(help="Of each of two working trees.")] = 5,
    device: Annotated[str, typer.Option(help="Where to run, as torch names it.")] = "cpu",
    dtype: Annotated[DtypeName, typer.Option(help="Of weights and inputs; int8 of weights.")] = DtypeName.float32,
    policy: Annotated[str, typer.Option(help="Who decides in systems with a temporal sampler.")] = "published",
    clip: Annotated[
        str, typer.Option(help="A video, a folder or tar of its frames, a folder of such, or `demo`.")
    ] = "demo",
    frames: Annotated[Optional[int], typer.Option(help="Frames of a clip; else the workload's.")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], typer.Option(help="Of torch; else the number of physical cores.")] = None,  # noqa: UP045
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Say which of two is faster, and by how much, or that it cannot be told.

    Two systems run in turns of a clip, frame by frame, in one process. Records are compared as they are, with
    the difference between processes allowed for. Working trees, two revisions of a model or of foveabench, are
    restarted several times each.

    Examples: foveabench compare epic/s0 epic/s1 ·
    foveabench compare before.json after.json ·
    foveabench compare ../main . --system my/net --adapter net.py:my_net
    """
    from bench.compare.command import Task, compare_any
    from bench.display import activity, print_json
    from bench.views import show_comparisons

    if not seconds > 0:
        raise UsageError(f"--seconds {seconds:g}: it must be positive")
    task = Task(live, system, seconds, restarts, device, dtype.value, policy, clip, frames, threads, adapter or [])
    with activity() as advance:
        comparisons = compare_any(a, b, task, advance)
    print_json([asdict(each) for each in comparisons]) if json else show_comparisons(comparisons)


@app.command()
def doctor(
    device: Annotated[str, typer.Option(help="What is to be measured, as torch names it.")] = "cpu",
    json: Json = False,
) -> None:
    """Say what on this machine will spoil a measurement, what counters it has, and what to do about it.

    Example: foveabench doctor
    """
    from bench.display import print_json
    from bench.doctor import examine, show
    from bench.streaming import usable_device

    findings = examine(usable_device(device))
    print_json([asdict(each) for each in findings]) if json else show(findings)


@app.command()
def audit(json: Json = False) -> None:
    """Check the published tables against themselves, with the rounding of every printed digit.

    Example: foveabench audit
    """
    from bench.display import print_json
    from bench.reproduce import audit_published
    from bench.views import show_findings

    findings = audit_published()
    print_json({"findings": [asdict(each) for each in findings]}) if json else show_findings(findings)


@app.command()
def tables(
    numbers: Annotated[Optional[list[int]], typer.Argument(help="Which, 1 to 5; all if none is named.")] = None,  # noqa: UP045
    out: Out = Path("results"),
    machine: Machine = None,
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Rebuild Tables I to V: published, counted, measured and the difference, as CSV, Markdown and LaTeX.

    Examples: foveabench tables 1 2 --out results · foveabench tables 4 --adapter my_net.py:my_net
    """
    from bench.reproduce import ALL_TABLES, counts_of, evaluations_of, make_tables, records_of

    counts = None
    if adapter:
        found = systems(adapter)
        known = [system for system in found if system.workload and system not in found.adapted]
        counts = counts_of(out, known, found.adapted)
    _show_files(make_tables(out, numbers or ALL_TABLES, records_of(out, machine), evaluations_of(out), counts), json)


@app.command()
def figures(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Which; without any, all that need no clip."),
    ] = None,
    out: Out = Path("results"),
    machine: Machine = None,
    system: Annotated[Optional[str], typer.Option(help="Figures of a clip: an adaptive system.")] = None,  # noqa: UP045
    clip: Annotated[str, typer.Option(help="Figures of a clip: a video, a folder or tar of its frames.")] = "demo",
    policy: Annotated[str, typer.Option(help="Figures of a clip: who decides in fig12.")] = "published",
    weights: Weights = None,
    frames: Annotated[Optional[int], typer.Option(help="Figures of a clip: frames to sample.")] = None,  # noqa: UP045
    adapter: Adapter = None,
    json: Json = False,
) -> None:
    """Draw the paper's figures, what was measured, and what a system sees in a clip, as PNG, SVG and CSV.

    fig3, fig13: complexity; speedup: FLOPs saved against time saved; lost: where saved FLOPs saved no time, of what was
    profiled; latency: by decision; energy: against top-1; roofline: of each stage. Of a clip: fig5: attention; fig8:
    regions; fig9: hallucinations; fig11: attention of all layers; fig12: decisions.

    Examples: foveabench figures fig3 speedup ·
    foveabench figures fig8 fig12 --clip clip.mp4 --system mini/s3-t2 --weights trained
    """
    from bench.reporting.clip_figures import CLIP_FIGURES, make_clip_figures
    from bench.reproduce import make_figures, records_of

    of_clip = [name for name in names or [] if name in CLIP_FIGURES]
    others = [name for name in names or [] if name not in CLIP_FIGURES]
    if of_clip and system is None:
        raise UsageError(f"--system is needed for {', '.join(of_clip)}: an adaptive system, such as epic/s3-t4")
    if system is not None and not of_clip:
        raise UsageError(f"--system is for figures of a clip: name some of {', '.join(CLIP_FIGURES)}")
    files = make_figures(out, others, records_of(out, machine)) if others or not of_clip else []
    if system is not None:
        found = systems(adapter).find(system)
        files += make_clip_figures(of_clip, clip, found, policy, weights, out, frames)
    _show_files(files, json)


@app.command()
def report(
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(callback=_page, help="The HTML file; RESULTS/report.html if not given."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of what `foveabench reproduce` made.")] = Path("results"),
    machine: Machine = None,
    json: Json = False,
) -> None:
    """Put everything that lies in a folder of results into one HTML file, which opens without a network.

    Tables that can be sorted and filtered, accuracy against cost, layers, speed-ups, decisions, environments and the
    audit. No model is run.

    Examples: foveabench report · foveabench report --results results --out report.html
    """
    from bench.reproduce import REPORT, make_report

    _show_files([make_report(results, results / REPORT if out is None else out, machine)], json)


@app.command()
def reproduce(out: Out = Path("results"), machine: Machine = None, adapter: Adapter = None, json: Json = False) -> None:
    """Count every system and rebuild the paper's complexity figures, its tables and the audit.

    Measurements that lie in OUT/records go into the tables, and into figures of their own.

    Example: foveabench reproduce --out results
    """
    found = systems(adapter)

    from bench.reproduce import reproduce_all

    _show_files(reproduce_all(out, found, machine), json)


app.command("data")(data_command.command)
app.command("train")(train_command.command)
app.command("evaluate")(evaluate_command.command)
app.command("compare-backbones")(placing_command.command)


def _show_files(paths: list[Path], json: bool) -> None:
    from bench.display import print_json

    if json:
        print_json({"files": [str(path) for path in paths]})
        return
    for path in paths:
        print(path)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line, with status 2 for a wrong call and 1 for a failed run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = app(arguments or ["--help"], standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt  # which some versions of Typer turn into a status, without a word
        sys.exit(status)
    except UsageError as error:
        _fail(error, 2)
    except (RunError, OSError) as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        # Typer may carry a click of its own, so that its errors are known by what they have, not by their class.
        if type(error).__name__ == "Abort":
            _fail("interrupted", INTERRUPTED)
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))


def _fail(message: Any, status: int) -> NoReturn:
    print(f"foveabench: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)
