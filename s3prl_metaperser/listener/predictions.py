"""What a recogniser predicts, as a data frame that prints what matters first. Needs pandas."""

from __future__ import annotations

import pandas

from s3prl_metaperser.storage.html_text import html_table

#: How many of the most probable classes are printed.
_SHOWN = 3


class Predictions(pandas.DataFrame):
    """One row a clip: the probability of each class, then the answer that they stand for.

    It is a ``pandas.DataFrame`` in all respects but how it is printed: the answer, then the most probable classes.
    """

    def __repr__(self) -> str:
        answer, rows = self._rows()
        if not rows:
            return "no clips"
        cells = [("clip", answer, "most probable"), *rows]
        wide = [max(len(row[place]) for row in cells) for place in range(2)]
        return "\n".join(f"{clip:<{wide[0]}}  {said:<{wide[1]}}  {likely}" for clip, said, likely in cells)

    def _repr_html_(self) -> str:
        answer, rows = self._rows()
        return html_table(f"{len(self)} clips", rows, ("clip", answer, "most probable"))

    def _rows(self) -> tuple[str, list[tuple[str, str, str]]]:
        """The answer's column, and of each clip its name, the answer, and the most probable classes."""
        *classes, answer = (str(name) for name in self.columns)
        rows = []
        for clip, *values in self.itertuples(name=None):
            *shares, said = values
            likely = sorted(zip(shares, classes, strict=True), key=lambda pair: -pair[0])[:_SHOWN]
            text = f"{said:.2f}" if isinstance(said, float) else str(said)
            rows.append((str(clip), text, ", ".join(f"{name} {share:.2f}" for share, name in likely)))
        return answer, rows
