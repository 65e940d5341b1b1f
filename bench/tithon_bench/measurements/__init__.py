"""What is measured: one class per measurement, in the order they run.

A measurement has a `name`, says what it is in `about`, and

    fits(peer class)       whether a peer can do this at all
    prepare(peer, scale)   what each round starts from; made anew each round unless `lasting`
    measure(stage, scale, record)

`lasting` is for what is dear to prepare and not worn by measuring: prepared once per peer, then all
peers are measured in turn, round by round. `rounds_max` bounds the rounds of what is dear to measure.
"""


class Measurement:
    name = ""
    about = ""
    lasting = False
    rounds_max = None

    @staticmethod
    def fits(name):
        return name != "snapshot-kernel"

    def prepare(self, peer, scale):
        """The default: a peer that was started."""
        return peer.start()

    def measure(self, stage, scale, record):
        raise NotImplementedError


def keeps_sessions(name):
    """Whether a peer's sessions outlive their clients."""
    return name in ("tithon", "tithon-py")


def known():
    """All measurements by name."""
    from tithon_bench.measurements import (
        attach,
        floods,
        loss,
        memory,
        restart,
        round_trip,
        starts,
        states,
        subscribers,
    )

    families = (floods, round_trip, attach, memory, starts, restart, subscribers, loss, states)
    return {one.name: one for family in families for one in family.MEASUREMENTS}
