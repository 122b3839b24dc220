import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from mubench_ray.metrics import compute_one
from mubench_ray.metrics.base import reads
from mubench_ray.metrics.svc_mia import BINS, WIDTH, merged, non_member_share, probability


def salun_s(retain, test, forget):
    """SVC_fit_predict of SalUn's released evaluation, with D_F as target_test: 1 for D_R, 1 - mean prediction."""
    side = [np.asarray(each).reshape(len(each), -1) for each in (retain, test, forget)]
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate(side[:2]), np.concatenate([np.ones(len(retain)), np.zeros(len(test))]))
    return 1 - attack.predict(side[2]).mean()


def confidences(rng, size, mean, spread):
    """Probabilities of the true label as networks give them: most near 1, some lost."""
    return probability(rng.standard_t(4, size) * spread + mean)


def test_d_f_like_d_r_is_member_and_like_d_test_is_not():
    rng = np.random.default_rng(0)
    retain, test = rng.uniform(0.95, 1, 400), rng.uniform(0.1, 0.8, 400)
    assert non_member_share(retain, test, rng.uniform(0.95, 1, 100)) == 0.0
    assert non_member_share(retain, test, rng.uniform(0.1, 0.8, 100)) == 1.0
    mixed = np.concatenate([rng.uniform(0.95, 1, 75), rng.uniform(0.1, 0.8, 25)])
    assert non_member_share(retain, test, mixed) == 0.25


@pytest.mark.parametrize("size", [150, 400, 1500])
def test_it_is_salun_s_classifier_at_any_size(size):
    rng = np.random.default_rng(size)
    for retain, test, forget in (((4, 1.5), (3.5, 1.8), (3.7, 1.7)), ((8, 2), (3, 3), (6, 2.5))):
        sets = [confidences(rng, n, *law) for n, law in ((size, retain), (size, test), (1000, forget))]
        exact = salun_s(*sets)
        assert 0.05 < exact < 0.95
        assert non_member_share(*sets) == pytest.approx(exact, abs=1e-9 if 2 * size <= BINS else 2e-3)


def test_correctness_and_all_probabilities_are_salun_s_too():
    rng = np.random.default_rng(1)
    correct = [rng.binomial(1, p, n).astype(float) for p, n in ((0.99, 3000), (0.9, 3000), (0.94, 700))]
    assert non_member_share(*correct) == pytest.approx(salun_s(*correct))
    rows = [rng.dirichlet(law, n) for law, n in (([5, 1, 1, 1], 500), ([3, 1, 1, 1], 500), ([4, 1, 1, 1], 300))]
    assert non_member_share(*rows) == pytest.approx(salun_s(*rows))


def test_a_stored_sample_of_d_r_stands_for_all_of_it():
    """C counts for every example: a classifier of a tenth of the examples with the same C is another one."""
    rng = np.random.default_rng(2)
    retain, test, forget = (confidences(rng, n, *law) for n, law in ((2000, (8, 2)), (2000, (3, 3)), (2000, (6, 2.5))))
    whole = non_member_share(retain, test, forget)
    part, fewer = (np.mean([non_member_share(retain[i::10], t, forget) for i in range(10)]) for t in (test, test[:200]))
    assert part == pytest.approx(whole, abs=0.01)
    assert abs(fewer - whole) > 0.02


def test_of_a_large_d_r_the_seed_draws_as_many_as_d_test_has():
    rng = np.random.default_rng(3)
    retain, test, forget = (confidences(rng, n, *law) for n, law in ((900, (4, 2)), (300, (3, 2)), (400, (3.5, 2))))
    drawn = np.random.default_rng(7).permutation(900)[:300]
    assert non_member_share(retain, test, forget, 7) == pytest.approx(salun_s(retain[drawn], test, forget))
    assert len({non_member_share(retain, test, forget, seed) for seed in range(5)}) > 1
    for feature in ("correctness", "confidence", "entropy", "modified_entropy", "probability"):
        assert "seed" in reads(f"svc_mia_{feature}")


def test_a_feature_of_heavy_tails_is_classified_as_by_all_points():
    """Means of neighbours that lay apart were .0075 off."""
    rng = np.random.default_rng(0)
    for size in (1500, 2000):
        sets = [np.exp(rng.normal(mean, 3, n)) for mean, n in ((-5, size), (-4, size), (-4.5, 2000))]
        assert non_member_share(*sets) == pytest.approx(salun_s(*sets), abs=1e-3)


def test_neighbours_of_one_feature_are_merged_and_rows_of_several_only_where_they_are_the_same():
    features = np.random.default_rng(4).normal(size=(5 * BINS, 1))
    points, place = merged(features)
    assert BINS <= len(points) <= BINS + len(features) / 5 and np.bincount(place).max() == 5
    assert np.array_equal(np.argsort(points[:, 0]), np.arange(len(points)))
    for number, point in enumerate(points[:, 0]):
        own = features[place == number, 0]
        assert point == pytest.approx(own.mean()) and np.ptp(own) <= WIDTH
    points, place = merged(np.array([[0.0, 1.0], [0.5, 0.5], [0.0, 1.0]]))
    assert points.tolist() == [[0.0, 1.0], [0.5, 0.5]] and place.tolist() == [0, 1, 0]


def test_the_confidence_is_the_probability_of_the_true_label():
    p = np.array([1e-9, 0.2, 0.5, 0.999])
    assert probability(np.log(p / (1 - p))) == pytest.approx(p)
    assert probability(np.array([-2000.0, 2000.0])).tolist() == [0.0, 1.0]


def test_every_attack_reads_its_own_column():
    rng = np.random.default_rng(2)
    columns = {
        "confidence": (8, -2),
        "entropy": (0.1, 2),
        "modified_entropy": (0.1, 3),
        "correct": (1, 0),
        "probabilities": (1, 0),
    }
    for own, names in (("confidence", ("svc_mia_confidence",)), ("entropy", ("svc_mia_entropy",)), ("correct", ("svc_mia_correctness",)),
                       ("modified_entropy", ("svc_mia_modified_entropy",)), ("probabilities", ("svc_mia_probability",))):  # fmt: skip
        observed = {"seed": 3}
        for name, (seen, unseen) in columns.items():
            observed |= {f"retain_{name}": rng.normal(seen, 0.02, 200), f"test_{name}": rng.normal(unseen, 0.02, 200)}
            observed[f"forget_{name}"] = rng.normal(unseen if name == own else seen, 0.02, 50)
        values = {name: compute_one(f"svc_mia_{name}", observed, {})
                  for name in ("confidence", "entropy", "correctness", "modified_entropy", "probability")}  # fmt: skip
        assert {f"svc_mia_{name}" for name, value in values.items() if value == 1.0} == set(names)
        assert sum(value == 0.0 for value in values.values()) == 4
        without = {name: values for name, values in observed.items() if own not in name}
        assert compute_one(names[0], without, {}) is None


def test_few_examples_are_undefined():
    assert np.isnan(non_member_share(np.ones(9), np.ones(50), np.ones(5)))
    assert np.isnan(non_member_share(np.ones(50), np.ones(50), np.ones(0)))


def song_and_mittal_s(probs, labels):
    """``_m_entr_comp`` of the released code of Song & Mittal."""
    log_probs = -np.log(np.maximum(probs, 1e-30))
    reverse_probs = 1 - probs
    log_reverse_probs = -np.log(np.maximum(reverse_probs, 1e-30))
    modified_probs, modified_log_probs = np.copy(probs), np.copy(log_reverse_probs)
    modified_probs[range(labels.size), labels] = reverse_probs[range(labels.size), labels]
    modified_log_probs[range(labels.size), labels] = log_probs[range(labels.size), labels]
    return np.sum(np.multiply(modified_probs, modified_log_probs), axis=1)


def test_the_modified_entropy_is_song_and_mittal_s():
    from mubench_ray.tasks.base import modified_entropy

    torch.manual_seed(0)
    logits = torch.randn(200, 7, dtype=torch.float64) * 4
    logits[0, 3], logits[1, 2] = 1e4, 1e4  # certain, and right or wrong
    labels = torch.randint(0, 7, (200,))
    labels[0], labels[1] = 3, 4
    log_probs = logits.log_softmax(-1)
    ours = modified_entropy(log_probs, labels[:, None]).numpy()
    assert ours == pytest.approx(song_and_mittal_s(log_probs.exp().numpy(), labels.numpy()), rel=1e-9, abs=1e-9)
    assert ours[0] == 0 and ours[1] > 100
