from __future__ import annotations

import numpy as np
from test_circuit_curve import curve

from mlxtrace.plotting.circuit_curves import circuit_curve


def test_the_curve_and_the_random_circuits_are_drawn(tmp_path):
    values = [[0.0, 0.0], [1.0, 2.0], [2.0, 2.0]]
    figure = circuit_curve(
        curve(values, random=np.array([[0.0, 0.2], [0.1, 0.3], [1.0, 1.0]])), tmp_path / "c.pdf"
    )
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(drawn["eap (approximate scores), top"].get_ydata(), [0, 0.75, 1])
    np.testing.assert_allclose(drawn["2 random of as many edges"].get_ydata(), [0.1, 0.2, 1])
    assert (tmp_path / "c.pdf").exists() and "CPR" in figure._supxlabel.get_text()
    alone = circuit_curve(curve([[0.0], [1.0], [2.0]], method="exact"))
    assert not any("random" in str(line.get_label()) for line in alone.axes[0].lines)
    assert [label.get_text() for label in alone.axes[0].get_xticklabels()] == ["0", "1", "10"]
