"""What can be said of a folder's rules.yml by its text: promtool's opinion, the cases of rules_test.yml, the runbooks."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(folder):
    for words in (["check", "rules", "--lint=all", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise AssertionError(f"{folder.name}: promtool {words[0]}: {done.stdout}{done.stderr}")
    for alert in re.findall(r"alert: (\w+)", (folder / "rules.yml").read_text()):
        section(alert)


def section(alert):
    """Fails unless the runbooks have a section on the alert."""
    if f"\n## {alert}\n" not in (ROOT / "docs/runbooks.md").read_text():
        raise AssertionError(f"docs/runbooks.md has no section on {alert}")


def untold(folder, prefix, scraped):
    """The metrics whose names begin so that rules.yml has and a scrape has not."""
    named = set(re.findall(rf"\b{prefix}_\w+", (folder / "rules.yml").read_text()))
    assert named, f"{folder.name}: no rule about {prefix}_…"
    return named - set(re.findall(r"^\w+", scraped, re.MULTILINE))
