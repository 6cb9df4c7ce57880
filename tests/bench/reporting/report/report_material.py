"""Made-up measurements and evaluations for the report, and the systems that are counted for it."""

from __future__ import annotations

from dataclasses import replace

from made_up_records import SPATIAL, MakeRecord

from bench.records.evaluation import ClipOutcome, Evaluation
from bench.records.measurement import Dtype, Energy, Record, Status

ESTIMATE = Energy("estimated:tdp", "a guess", joules=40.0, seconds=2.0, frames=20)
COUNTER = Energy("measured:nvml", "a counter", joules=40.0, seconds=2.0, frames=20)
SYSTEMS = (
    *("san19", "resnet50", "epic/san19-base", "epic/tbn-ra", "epic/tbn-raf", "epic/slowfast-r101-8x8"),
    *("epic/s0", "epic/s2", "epic/s3", "epic/s0-t1", "epic/s2-t4", "epic/s3-t1", "epic/s3-t4"),
    *("ucf101/s0", "ucf101/s3", "ucf101/s0-t1", "ucf101/s3-t4", "ucf101/tsn-resnet50", "ucf101/res3d-18"),
    *("mini/s3", "mini/s3-t2", "mini/tbn-ra"),
)
PATIENCE = 600_000
"""Milliseconds after which a browser that does not answer is given up; on a machine that is busy it takes long."""

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\"'&"


def evaluation(
    system: str, policy: str, right: int, decisions: str, seed: int = 0, dtype: Dtype = "float32"
) -> Evaluation:
    """Of twenty clips of the data set mini, the first of which were told right."""
    clips = []
    for number in range(20):
        verbs = (1, 0) if number < right else (0, 1)
        clips.append(ClipOutcome(f"clip-{number}", (1, 2), (verbs, (2, 3)), ((2.0, 1.0),) * 2, decisions, 10**9))
    stages = {"scan": 10, "decide": 1, "hallucinate": 3, "look": 100, "classify": 6}
    counted = {name: 10**6 * flops for name, flops in stages.items()}
    return Evaluation(
        schema=1,
        data="mini",
        split="val",
        limit=None,
        system=system,
        policy=policy,
        seed=seed,
        trained=True,
        weights="sha256:0",
        frames=len(decisions),
        batch=4,
        device="cpu",
        replayed=False,
        versions={},
        stages={"exact": counted, "paper": counted},
        frames_per_call=1,
        clips=clips,
        dtype=dtype,
    )


EVALUATIONS = [
    evaluation("mini/s3-t2", "learned", 15, "FPSFFPSFPF"),
    evaluation("mini/s3-t2", "learned", 17, "FPSFFPSFPF", seed=1),
    evaluation("mini/s3-t2", "random", 9, "FPSFFPSFPF"),
    evaluation("mini/s3", "always-full", 18, "FFFFFFFFFF"),
    evaluation("mini/tbn-ra", "fixed", 12, "FFFFFFFFFF"),
    evaluation("mini/s3", "always-full", 17, "FFFFFFFFFF", dtype="int8"),
]


def records(make_record: MakeRecord) -> dict[str, list[Record]]:
    """Of two machines: by folder."""
    spatial = {"shares": (0.0, 0.0, 100.0), "stages": SPATIAL}
    cpu = [
        make_record("epic/s3", [200.0 + i % 3 for i in range(20)], energy=ESTIMATE, **spatial),
        make_record(
            "epic/s3-t4", [200.0] * 12, [50.0] * 20, [0.1] * 12, (36.3, 43.7, 20.0), beside=[200.0], energy=ESTIMATE
        ),
        make_record("epic/tbn-ra", [90.0 + i % 2 for i in range(15)], notes=["silence stands for the sound"]),
        make_record("ucf101/s0", [100.0] * 15, **spatial),
    ]
    cpu.append(replace(cpu[1], case=replace(cpu[1].case, system="epic/s2-t4"), status=Status("killed", "by signal 9")))
    gpu = [make_record("epic/s3", [9.0] * 15, device="cuda", energy=COUNTER, environment={"gpu": "H200"}, **spatial)]
    return {"a-cpu": cpu, "b-gpu": gpu}
