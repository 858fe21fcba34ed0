"""What an export in another precision must keep, and the record of what it kept."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

TOLERANCE = 0.002
"""How far mean IoU and mean boundary F at 1 px may fall."""


class Gate(BaseModel):
    """One set of true masks, refined by the original and by the export.

    Attributes:
        data: name of the set.
        instances: compared.
        iou: mean IoU by the original and by the export.
        f1: mean boundary F at 1 px, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    instances: int = Field(ge=1)
    iou: tuple[float, float]
    f1: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether neither falls by more than `TOLERANCE`."""
        return all(after >= before - TOLERANCE for before, after in (self.iou, self.f1))


def gate_table(gates: tuple[Gate, ...]) -> str:
    """The figures as a Markdown table."""
    lines = ["| set | instances | mean IoU | F@1 |", "| --- | --- | --- | --- |"]
    for gate in gates:
        cells = (f"{before:.4f} → {after:.4f}" for before, after in (gate.iou, gate.f1))
        lines.append(f"| {gate.data} | {gate.instances} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
