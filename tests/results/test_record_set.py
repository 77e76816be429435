"""Sets of records: pairs by name."""

import pytest
from test_effects_set import effects_set
from test_noising_window_set import noising_set

from mlxtrace.errors import InputError
from mlxtrace.results.record_set import RecordSet


@pytest.mark.parametrize("made", [effects_set, noising_set])
def test_pairs_by_name_and_number(made):
    found = made()
    assert isinstance(found, RecordSet) and found.single("p2") is found.single(2) is found.singles[2]
    with pytest.raises(InputError, match="there is no pair 'p9'"):
        found.single("p9")
