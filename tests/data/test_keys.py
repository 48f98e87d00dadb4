"""Which samples an epoch uses, in which order and on which process."""

import pytest
import torch

from attnlab.data.keys import KeySampler, LazyLoader, SampleKey, mix, sample_seed, sample_seeds


def test_mix_is_splitmix64():
    # The first outputs of splitmix64 from state 0, as published with its reference implementation.
    step = 0x9E3779B97F4A7C15
    assert [mix(step * turn % 2**64) for turn in range(2)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
    ]


def test_seeds_of_samples_differ_in_every_part_and_fit_an_int64():
    keys = [SampleKey(e, s, r) for e in range(5) for s in range(7) for r in range(3)]
    seeds = {sample_seed(seed, key) for seed in (0, 1, 11) for key in keys}
    assert len(seeds) == 3 * len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_seeds_of_a_batch_are_those_of_its_samples():
    keys = [SampleKey(e, 7919**s, r) for e in range(3) for s in range(4) for r in range(2)]
    for seed in (0, 11, 2**64 - 59):
        assert sample_seeds(seed, keys).tolist() == [sample_seed(seed, key) for key in keys]
    assert sample_seeds(3, []).tolist() == []


def test_an_epoch_is_a_permutation_of_its_own():
    sampler = KeySampler(23, train=True, seed=3)
    first = list(sampler)
    assert sorted(key.sample for key in first) == list(range(23))
    assert first == list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert {key.epoch for key in second} == {1}
    assert [key.sample for key in second] != [key.sample for key in first]
    assert [key.sample for key in KeySampler(23, train=True, seed=4)] != [
        key.sample for key in first
    ]


def test_evaluation_goes_through_the_data_in_order():
    assert list(KeySampler(5, train=False, seed=3)) == [SampleKey(0, i, 0) for i in range(5)]


def test_processes_share_an_epoch():
    whole = list(KeySampler(23, train=True, seed=3))
    parts = [list(KeySampler(23, True, seed=3, num_replicas=3, rank=rank)) for rank in range(3)]
    assert [len(part) for part in parts] == [7, 7, 7]  # all take the same number of steps
    assert [key for turn in zip(*parts, strict=True) for key in turn] == whole[:21]
    parts = [list(KeySampler(23, False, seed=3, num_replicas=3, rank=rank)) for rank in range(3)]
    assert [len(part) for part in parts] == [8, 8, 7]  # none left out, none twice
    assert sorted(key.sample for part in parts for key in part) == list(range(23))
    assert all(len(KeySampler(23, False, 3, 1, 3, rank)) == len(parts[rank]) for rank in range(3))


def test_repeated_augmentation_keeps_the_length_of_an_epoch():
    order = [key.sample for key in KeySampler(23, train=True, seed=3)]
    keys = list(KeySampler(23, train=True, seed=3, repeats=3))
    assert len(keys) == 23
    assert [key.sample for key in keys] == [order[turn // 3] for turn in range(23)]
    assert [key.repeat for key in keys] == [turn % 3 for turn in range(23)]
    parts = [list(KeySampler(23, True, 3, 3, num_replicas=2, rank=rank)) for rank in range(2)]
    for rank, part in enumerate(parts):  # all uses of a sample on one process
        assert [key.repeat for key in part] == [turn % 3 for turn in range(11)]
        assert [key.sample for key in part] == [order[turn // 3 * 2 + rank] for turn in range(11)]
    assert {key.repeat for key in KeySampler(23, train=False, seed=3, repeats=3)} == {0}


class Keys:
    """Gives the number of a sample for the sample."""

    def __getitem__(self, key: SampleKey) -> int:
        return key.sample


@pytest.mark.parametrize("keyed", [True, False])  # a plain sampler's batches are passed over
def test_a_pass_is_taken_up_at_the_next_batch(keyed):
    def loader(state: dict | None = None) -> LazyLoader:
        sampler = KeySampler(23, train=True, seed=3)
        plain = [SampleKey(0, sample, 0) for sample in range(23)]
        made = LazyLoader(Keys(), 4, sampler=sampler if keyed else plain, collate_fn=list)
        if state is not None:
            made.load_state_dict(state)
        return made

    def seed() -> int:
        return torch.initial_seed() ^ hash(torch.get_rng_state().numpy().tobytes())

    left = loader()
    assert left.state_dict() == {"batches": 0, "begun": False}
    batches = iter(left)
    first = [next(batches), next(batches)]
    state = left.state_dict()
    assert state == {"batches": 2, "begun": True}
    drawn, taken_up = seed(), loader(state)
    rest = list(taken_up)
    assert seed() == drawn  # beginning the pass has drawn already
    assert rest == list(batches)
    assert taken_up.state_dict() == {"batches": 6, "begun": True}
    assert list(taken_up) == [*first, *rest]  # the pass after it begins at the beginning
    assert seed() != drawn


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="repeats=0 must be at least 1"):
        KeySampler(23, train=True, seed=3, repeats=0)
    with pytest.raises(ValueError, match="rank"):
        KeySampler(23, train=True, seed=3, num_replicas=2, rank=2)
