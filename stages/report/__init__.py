"""The report stage: one self-contained HTML page (no network, no script, below 1 MB) from the chain's sealed results.

In: the artifacts of all earlier stages. Out: report.html.
"""

from stages.report.page import run as run
