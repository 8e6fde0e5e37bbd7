import struct

from tensorboardX.proto.event_pb2 import Event

from stl_ray.pipeline.train.tensorboard import event_file

ROWS = [
    {"epoch": 1, "loss": 2.0, "validation_loss": None, "seconds": 1.5},
    {"epoch": 2, "loss": 1.0, "validation_loss": 1.25, "seconds": 1.0},
]


def events(data: bytes) -> list[Event]:
    """TFRecord: length, its checksum, the record, its checksum."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_roundtrip_every_figure_at_its_epoch_and_time():
    read = {
        (value.tag, event.step): (value.simple_value, event.wall_time)
        for event in events(event_file(ROWS))
        for value in event.summary.value
    }
    assert read == {
        ("loss", 1): (2.0, 1.5),
        ("seconds", 1): (1.5, 1.5),
        ("loss", 2): (1.0, 2.5),
        ("validation_loss", 2): (1.25, 2.5),
        ("seconds", 2): (1.0, 2.5),
    }


def test_invariant_more_epochs_only_add_to_the_file():
    """So TensorBoard, which reads on from where it was, can follow a file that is written anew."""
    short, long = event_file(ROWS[:1]), event_file(ROWS)
    assert len(long) > len(short)
    assert [event.SerializeToString() for event in events(long)][1 : len(events(short))] == [
        event.SerializeToString() for event in events(short)
    ][1:]
