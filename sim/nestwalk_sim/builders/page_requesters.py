"""Random devices that ask for pages: sane ones, and ones that meet one fault condition of page requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ..model import ModelConfig, PageRequest, Request, page_request_conditions
from .defects import DEFECTS, Defect
from .defects.catalogue import change_context, is_scalable
from .shapes import scalable_shapes
from .structures import ScalableTables
from .target import Target, build_target

__all__ = ["PageRequester", "random_page_requesters", "table_conditions"]


def _refuse(target: Target) -> None:
    change_context(target, PRE=0)


def _defects(config: ModelConfig) -> list[Defect]:
    conditions = page_request_conditions(config)
    return [
        *(each for each in DEFECTS if each.condition in conditions and any(map(each.fits, scalable_shapes(config)))),
        Defect("SCT.8", _refuse, is_scalable, None),
    ]


def table_conditions(config: ModelConfig) -> frozenset[str]:
    """The fault conditions that a device's tables can have for page requests."""
    return frozenset(each.condition for each in _defects(config))


@dataclass
class PageRequester:
    """A device that asks for pages, with or without a PASID.

    Parameters
    ----------
    source_id, pasid : int, int or None
    condition : str or None
        The fault condition that its page requests meet; None if they are accepted.
    access : Request
        An access of its own.
    """

    source_id: int
    pasid: int | None
    condition: str | None
    access: Request

    def request(self, random: Random, *, group: int, last: bool) -> PageRequest:
        """A request for any page. Without a PASID it is neither privileged nor for execution."""
        with_pasid = self.pasid is not None
        return PageRequest(
            self.source_id,
            self.pasid,
            random.getrandbits(52) << 12,
            read=bool(random.getrandbits(1)),
            write=bool(random.getrandbits(1)),
            last=last,
            group=group,
            execute=with_pasid and random.random() < 0.3,
            privileged=with_pasid and random.random() < 0.3,
        )


def random_page_requesters(
    random: Random, config: ModelConfig, tables: ScalableTables, *, sane: int, faulty: int
) -> Iterator[PageRequester]:
    """Devices, each under a half of a root entry of its own; the faulty ones go through all fault conditions in turn,
    with PASID and without where both meet it.
    """
    halves = random.sample(range(512), sane + faulty)
    defects = [(each, pasid) for each in _defects(config) for pasid in (False, True) if each.pasid in (None, pasid)]
    random.shuffle(defects)
    for number, half in enumerate(halves):
        source_id = half << 7 | random.getrandbits(7)
        defect, with_pasid = (None, bool(random.getrandbits(1))) if number < sane else defects[number % len(defects)]
        shapes = [shape for shape in scalable_shapes(config) if defect is None or defect.fits(shape)]
        target = build_target(random, config, tables, random.choice(shapes), source_id, with_pasid)
        change_context(target, DTE=1, PRE=1)
        if defect is not None:
            defect.plant(target)
        condition = defect.condition if defect else None
        yield PageRequester(source_id, target.request["pasid"], condition, target.make_request())
