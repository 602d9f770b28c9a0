from stages.curation.duplicates import drop_duplicates
from stages.curation.pool import Candidate


def test_the_earlier_row_stays_and_is_the_evidence(problem):
    rows = [
        problem(r"Find \(\frac12\) of 6.", id="first"),
        problem(r"find $\dfrac12$ of 6", id="same after normalisation"),
        problem(r"Find \(\frac12\) of 8.", id="other"),
        problem(r"Find \(\frac12\) of 6.", id="same"),
    ]
    sifted = drop_duplicates([Candidate(row, "a", generated=False) for row in rows])
    assert [kept.problem.id for kept in sifted.kept] == ["first", "other"]
    assert [(drop.candidate.problem.id, drop.reason, drop.evidence) for drop in sifted.dropped] == [
        ("same after normalisation", "duplicate: same text after normalisation", "first"),
        ("same", "duplicate: same text", "first"),
    ]
