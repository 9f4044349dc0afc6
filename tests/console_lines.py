"""What a run of ours prints, told apart from what its libraries add."""

import re

#: The table at the end: title, box, remarks below it, until the log goes on.
TABLE = re.compile(r"^\S+ \(seed \d+\)\n┏(?:.|\n)*?(?=^\[)", re.MULTILINE)
#: Pieces of one that PyTorch 2.8 and earlier print in C++ when processes meet, whatever they are told, both at once.
MET = re.compile(
    r"(?:\[Gloo\] Rank | is connected to | peer ranks\. ?|Expected number of connected peer ranks is : |\d)+"
)
#: A line of the log that was written by us, or by Hydra on the jobs of a sweep.
OURS = re.compile(r"\[[\d ,:-]+\]\[(?:pruning_lit(?:\.\w+)*\]\[(?:INFO|WARNING)\] - |HYDRA\] )")


def foreign_lines(printed: str) -> list[str]:
    """Lines that neither this package nor Hydra has written."""
    return [
        line
        for line in TABLE.sub("", printed).splitlines()
        if line and not OURS.match(line) and not MET.fullmatch(line)
    ]
