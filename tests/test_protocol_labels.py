import numpy as np
import pytest

from s3prl_metaperser.corpora.base import Rating
from s3prl_metaperser.corpora.iemocap import CLASSES, LABEL_SET
from s3prl_metaperser.corpora.label_set import smooth
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.protocol.labels import binarise, ticked
from s3prl_metaperser.protocol.loader import LabelTable


def test_one_over_c_is_a_fixed_point_of_smoothing():
    np.testing.assert_allclose(smooth(np.full(9, 1 / 9), 0.05), np.full(9, 1 / 9), rtol=1e-14)


def test_consensus_pools_every_tick_of_every_rater_once():
    ratings = [
        Rating("u1", "C-E2", ("neutral",)),
        Rating("u1", "C-E3", ("neutral",)),
        Rating("u1", "C-E4", ("neutral",)),
        Rating("u1", "C-F1", ("neutral", "angry")),
    ]
    label = LABEL_SET.target(LabelTable.from_ratings(ratings, {"u1": 0}, LABEL_SET, 0.05).counts[0], smoothing=0.0)
    assert label[CLASSES.index("neutral")] == pytest.approx(0.8)  # EMO-SUPERB's stored value for this utterance
    assert label[CLASSES.index("angry")] == pytest.approx(0.2)


def test_threshold_means_the_same_before_and_after_smoothing():
    generator = np.random.default_rng(0)
    raw = generator.dirichlet(np.full(9, 0.3), size=500)
    np.testing.assert_array_equal(binarise(raw), binarise(smooth(raw, 0.05)))


def test_uniform_prediction_in_float32_ticks_nothing():
    uniform = np.full((1, 9), np.float32(1) / np.float32(9), dtype=np.float32)
    assert np.float64(uniform[0, 0]) > 1 / 9, "otherwise this test would show nothing"
    assert not binarise(uniform).any()


def test_ticks_that_are_all_nine_classes_are_no_label():
    assert not ticked(np.ones((1, 9), dtype=int)).any()
    assert ticked(np.eye(9, dtype=int)).sum() == 9


def test_empty_label_and_bad_smoothing_are_errors():
    with pytest.raises(UserError, match="at least one tick"):
        LABEL_SET.target(LABEL_SET.counts(()), 0.05)
    with pytest.raises(UserError, match="smoothing"):
        smooth(np.full(9, 1 / 9), 1.5)
