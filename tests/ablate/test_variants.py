import pytest

from golf_fast.ablate.variants import MECHANISMS, WHOLE, mechanisms_of, variants
from golf_fast.errors import InputError


def test_a_variant_is_the_recipe_without_one_thing() -> None:
    whole, bigram, wide = variants("tiny", ["--score.ttt=off"], ["bigram"], ["wide: --model.dim 204 --seed 7"])
    assert (whole.name, bigram.name, wide.name) == (WHOLE, "bigram", "wide")
    assert {each.config.score.ttt for each in (whole, bigram, wide)} == {"off"}
    assert (whole.config.model.bigram_buckets, bigram.config.model.bigram_buckets) == (8192, 0)
    assert (wide.config.model.dim, wide.config.seed) == (204, 7)


def test_every_mechanism_is_some_recipe_s() -> None:
    """Or can be given to one."""
    given = {
        "attention_gate": ["--model.attention-gate"],
        "case_ops": ["--data.case-ops"],
        "lanes": ["--model.lanes-from=3"],
        "loop": ["--model.loops=1", "--model.loop-start=1", "--model.loop-end=2", "--train.loop-at=0.3"],
        "min_lr": ["--train.min-lr=0.1"],
        "norm_scale": ["--model.norm-scale"],
        "partial_rotary": ["--model.rope-dims=16"],
        "polar_express": ["--train.muon-coefficients=polar_express"],
        "row_normalize": ["--train.muon-row-normalize"],
        "separate_documents": ["--model.separate-documents"],
        "skip_gates": ["--model.skip-gates"],
        "slope": ["--model.negative-slope=0.5"],
        "xsa": ["--model.xsa-layers=4"],
    }
    for name in MECHANISMS:
        recipe = "seed_windowed" if name == "window" else "tiny"
        assert [each.name for each in variants(recipe, given.get(name, []), [name], [])] == [WHOLE, name]


def test_what_a_recipe_has_is_listed() -> None:
    assert mechanisms_of("base") == ["bigram", "smear", "softcap", "tied_embeddings", "weight_decay"]


@pytest.mark.parametrize(
    ("drop", "change", "says"),
    [
        (["nothing"], [], "--drop nothing: no such mechanism; there are adapting, "),
        (["window"], [], "--drop window: tiny has no window (attention to a window); it has adapting, "),
        ([], ["wide"], "--change 'wide': it must be a plain name, a colon and flags"),
        ([], ["a/b: --seed 1"], "--change 'a/b: --seed 1': it must be a plain name"),
        ([], ["a: --seed '1"], "No closing quotation"),
        ([], ["a: --model.dim 191"], "a: model.heads is 6: it must be a divisor of model.dim = 191"),
        (["ema"], ["ema: --seed 1"], "ema: there are two variants of this name"),
        ([], ["whole: --seed 1"], "whole: there are two variants of this name"),
    ],
)
def test_what_cannot_be_left_out_is_named(drop: list[str], change: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        variants("tiny", [], drop, change)
    assert says in str(caught.value)
