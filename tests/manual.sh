#!/usr/bin/env bash
# Generates the manual page and the shell completions, and compares them with the output of --help: each flag, its
# variable, default and help text is in the page, and each shell completes flags, values and the subcommand.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

need groff=groff python3=python3 fish=fish zsh=zsh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CARGO:-cargo} run --quiet --locked --features manual --bin manual -- "$work"
# Lines of any length, and without the revision of the build in the environment.
COLUMNS=1000 bin/fibsrv --help >"$work/help"
groff -man -Tutf8 -ww -P-cbou -rLL=1000n "$work/fibsrv.1" >"$work/page" 2>"$work/warnings"

python3 - "$work" <<'PYTHON'
import pathlib, re, subprocess, sys

work = pathlib.Path(sys.argv[1])
problems = []
if warnings := (work / "warnings").read_text():
    problems.append(f"groff: {warnings}")


def plain(text):
    """Returns the words of a text, with the hyphens and quotes of a terminal."""
    return " ".join(text.translate(str.maketrans("‐−’‘", "--''")).split())


page = plain((work / "page").read_text())
flags = {}
for block in re.split(r"\n(?=\s+(?:-\w, )?--\w)", (work / "help").read_text())[1:]:
    name, text = re.match(r"\s+(?:-\w, )?(--[a-z-]+)(.*?)(?:\n\n|\Z)", block, re.S).groups()
    flags[name] = plain(text)
assert len(flags) > 25, flags
for name, text in flags.items():
    help_text, *_ = re.sub(r"^<\S+>(?:\.\.\.)? ", "", text).split(" [")
    wanted = [name, *re.findall(r"\[env: (\w+)=", text), help_text]
    wanted += [f"[default: {value}]" for value in re.findall(r"\[default: ([^]]*\]:\d+|[^]]*)\]", text)]
    problems += [f"the manual page lacks {part!r} of {name}" for part in wanted if plain(part) not in page]
for section in "NAME SYNOPSIS DESCRIPTION OPTIONS ENVIRONMENT SIGNALS FILES VERSION".split() + ["EXIT STATUS", "SEE ALSO"]:
    if section not in page:
        problems.append(f"the manual page has no section {section}")
if "health" not in page.split("SUBCOMMANDS")[1].split("ENVIRONMENT")[0]:
    problems.append("the manual page lacks the subcommand health")
for other in re.findall(r"fibsrv-\w+\(1\)", page):
    problems.append(f"the manual page refers to {other}, which does not exist")
operations = pathlib.Path("docs/operations.md").read_text().split("\n## Signals\n")[1].split("\n## ")[0]
signals = set(re.findall(r"SIG[A-Z0-9]+", "\n".join(re.findall(r"^\| (SIG[^|]*)", operations, re.M)))) - {"SIGKILL"}
problems += [f"the manual page lacks {signal}" for signal in signals if signal not in page]
assert len(signals) > 3, signals

BASH = """source fibsrv.bash
COMP_WORDS=(fibsrv "$@"); COMP_CWORD=$#; COMP_LINE="fibsrv $*"
_fibsrv fibsrv "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}\""""


def complete(shell, *words):
    """Returns what a shell offers after these words."""
    line = " ".join(["fibsrv", *words])
    fish = ["fish", "--no-config", "-c", f"source fibsrv.fish; complete --do-complete='{line}'"]
    command = ["bash", "-c", BASH, "bash", *words] if shell == "bash" else fish
    result = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
    return {line.split("\t")[0] for line in result.stdout.splitlines() if line}


for shell in ("bash", "fish"):
    for start in ("--m", "--drain-", "--h", "--l"):
        offered, wanted = complete(shell, start), {name for name in flags if name.startswith(start)}
        if offered != wanted:
            problems.append(f"{shell} completes {start} to {offered}, not to {wanted}")
    values = complete(shell, "--access-log", "") if shell == "bash" else complete(shell, "--access-log=")
    if {value.removeprefix("--access-log=") for value in values} != {"off", "combined", "json"}:
        problems.append(f"{shell} does not complete the values of --access-log")
    if "health" not in complete(shell, "he"):
        problems.append(f"{shell} does not complete health")
zsh = (work / "_fibsrv").read_text()
subprocess.run(["zsh", "-n", work / "_fibsrv"], check=True)
problems += [f"zsh does not complete {name}" for name in flags if f"'{name}[" not in zsh and f"'*{name}=[" not in zsh
             and f"'{name}=[" not in zsh and f"){name}[" not in zsh]
if problems:
    sys.exit("\n".join(f"manual: {problem}" for problem in problems))
print(f"manual: passed, {len(flags)} flags are in the manual page and in the completions of three shells")
PYTHON
