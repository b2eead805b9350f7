"""Result tables: measured values against objectives. `markdown` formats any table.

    with Table("external_monitoring_test") as table:
        table.row("page after the server stopped", 5.31, at_most=12, unit="s")
        table.row("lines lost", 0, exactly=0)
        table.row("latency before, 99 %", 0.4, unit="ms")       # informational
    sys.exit(table.status)

An aborted test prints the rows so far.
"""


def markdown(head, rows):
    """Formats an aligned Markdown table."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(f"{word:{width}}" for word, width in zip(line, widths)) + " |" for line in lines)


class Table:
    def __init__(self, title):
        self.title = title
        self.rows = []
        self.failed = 0
        self.status = 1

    def row(self, what, seen, at_most=None, exactly=None, unit=""):
        """Adds a measured value; with an objective it passes or fails."""
        if exactly is not None:
            objective, passed = self._text(exactly, unit), seen == exactly
        elif at_most is not None:
            objective, passed = "at most " + self._text(at_most, unit), seen <= at_most
        else:
            objective, passed = "-", True
        self.failed += not passed
        self.rows.append((what, self._text(seen, unit), objective, "ok" if passed else "MISSED"))

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        for row in self.rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        failed = self.failed + (kind is not None)
        print(f"{self.title}: {len(self.rows) - self.failed} passed, {failed} failed", flush=True)
        self.status = 1 if failed else 0

    @staticmethod
    def _text(value, unit):
        text = f"{value:.2f}" if isinstance(value, float) else str(value)
        return f"{text} {unit}".strip()
