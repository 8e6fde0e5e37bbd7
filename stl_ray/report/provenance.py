"""Timings, quarantine and provenance: what ran where, how long, on which versions, and what was set aside."""

from collections.abc import Sequence

from stl_ray.config.help import JOBS
from stl_ray.report.blocks import EMPTY, Block, Cell, Listing, Table, Text
from stl_ray.report.inputs import Inputs
from stl_ray.report.names import unique
from stl_ray.report.records import Session

NO_SESSIONS = Text("Not here yet: jobs/JOB/. Every job adds a file when it ends.", kind="missing")


def timings(inputs: Inputs) -> tuple[Block, ...]:
    """One row per session of a job; a job that was killed and run again has several."""
    if not inputs.sessions:
        return (NO_SESSIONS,)
    rows = tuple(_timing(session) for session in inputs.sessions)
    total = sum(session.seconds for session in inputs.sessions)
    columns = ("Job", "Outcome", "Started", "Time", "Images", "Images/s", "CPUs", "GPUs", "Machine")
    return (Table("sessions", "Sessions", columns, rows, footnote=f"Together {_duration(total)}."),)


def _timing(session: Session) -> tuple[Cell, ...]:
    rate = Cell(f"{session.images / session.seconds:.1f}") if session.images and session.seconds else EMPTY
    return (
        Cell(session.job),
        Cell(session.outcome),
        Cell(session.started[:19].replace("T", " ")),
        Cell(_duration(session.seconds)),
        Cell(f"{session.images:,}"),
        rate,
        EMPTY if session.cpus is None else Cell(str(session.cpus)),
        EMPTY if session.gpus is None else Cell(f"{session.gpus:g}"),
        Cell(session.machine),
    )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def quarantine(inputs: Inputs) -> tuple[Block, ...]:
    """Rows kept and set aside per finished dataset, and how many test images are training images too."""
    if not inputs.manifests:
        return (Text("Not here yet: no finished dataset (MANIFEST.json) in this experiment.", kind="missing"),)
    total = sum(manifest.quarantined for manifest in inputs.manifests)
    rows = tuple(
        (
            Cell(f"{manifest.stage}/{manifest.name}"),
            Cell(f"{manifest.rows:,}"),
            Cell(f"{manifest.quarantined:,}"),
            Cell(", ".join(f"{count} {reason}" for reason, count in manifest.reasons.items())),
        )
        for manifest in inputs.manifests
    )
    counted = [session.identical for session in inputs.sessions if session.identical is not None]
    return (
        Text(f"Images set aside: {total}."),
        *(Text(latest.text, kind="caveat" if latest.in_both else "plain") for latest in counted[-1:]),
        Table("datasets", "Finished datasets", ("Dataset", "Rows", "Quarantined", "Reasons"), rows, folded=True),
    )


def provenance(inputs: Inputs) -> tuple[Block, ...]:
    """Versions, configuration digests and commits of the sessions; digests of artifacts and datasets; the config."""
    blocks: list[Block] = [*_sessions(inputs)] if inputs.sessions else [NO_SESSIONS]
    if inputs.blocks and (order := order_of_numbers(inputs.blocks[0].scores.class_names)):
        blocks.append(Text(f"The classes are named by numbers, in the order of {order}."))
    digests = _digests(inputs)
    if digests:
        rows = tuple((Cell(name), Cell(digest[:16])) for name, digest in digests.items())
        blocks.append(Table("digests", "Digests (first 16 digits of SHA-256)", ("What", "Digest"), rows, folded=True))
    if inputs.experiment is not None:
        blocks.append(Listing("Resolved configuration", inputs.experiment.model_dump_json(indent=2)))
    return tuple(blocks)


def order_of_numbers(names: Sequence[str]) -> str:
    """The order of classes that are all named by whole numbers, in words; empty for others."""
    if not all(name.isdecimal() for name in names):
        return ""
    first = f" ({', '.join(names[:3])}, ...)"
    if list(names) == sorted(names, key=int):
        return f"numbers{first}"
    return f"text{first}, as torchvision's ImageFolder" if list(names) == sorted(names) else f"their source{first}"


def _sessions(inputs: Inputs) -> list[Block]:
    sessions = inputs.sessions
    latest = {session.job: session for session in sessions}
    blocks: list[Block] = []
    if len({session.config_digest for session in latest.values()}) > 1:
        blocks.append(Text("The jobs did not all run with the same configuration; see the table.", kind="caveat"))
    if len({session.commit for session in latest.values()}) > 1:
        blocks.append(Text("The jobs did not all run at the same commit; see the table.", kind="caveat"))
    jobs = tuple(
        (
            Cell(job),
            Cell(latest[job].finished[:19].replace("T", " ")),
            Cell(latest[job].config_digest[:12]),
            Cell((latest[job].commit or "not a checkout")[:14]),
        )
        for job in JOBS
        if job in latest
    )
    blocks.append(
        Table("last-sessions", "Last session of every job", ("Job", "Finished", "Configuration", "Commit"), jobs)
    )
    packages = unique(name for session in sessions for name in session.versions)
    versions = tuple(
        (Cell(name), Cell(", ".join(unique(s.versions[name] for s in sessions if name in s.versions))))
        for name in packages
    )
    blocks.append(Table("versions", "Versions", ("Package", "Version"), versions))
    return blocks


def _digests(inputs: Inputs) -> dict[str, str]:
    digests = {f"space {space.name}": space.stored.digest for space in inputs.spaces if space.stored is not None}
    digests |= {f"classifier {name}": record.digest for name, record in inputs.classifiers.items()}
    for block in inputs.blocks:
        digests[f"ids of the images that {block.name} was scored on"] = block.scores.ids_sha256
    digests |= {f"dataset {m.stage}/{m.name}": m.digest for m in inputs.manifests if m.digest}
    return digests
