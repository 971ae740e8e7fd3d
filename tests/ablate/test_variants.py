import pytest

from golf_fast.ablate.variants import MECHANISMS, WHOLE, mechanisms_of, variants
from golf_fast.errors import InputError


def test_a_variant_is_the_recipe_without_one_thing() -> None:
    whole, bigram, wide = variants("tiny", ["--score.ttt=off"], ["bigram"], ["wide: --model.dim 204 --train.beta2 0.9"])
    assert (whole.name, bigram.name, wide.name) == (WHOLE, "bigram", "wide")
    assert {each.config.score.ttt for each in (whole, bigram, wide)} == {"off"}
    assert (whole.config.model.bigram_buckets, bigram.config.model.bigram_buckets) == (8192, 0)
    assert (wide.config.model.dim, wide.config.train.beta2) == (204, 0.9)


def test_every_mechanism_is_some_recipe_s() -> None:
    had = {name for recipe in ("tiny", "tiny_top", "top", "seed_windowed") for name in mechanisms_of(recipe)}
    assert had == set(MECHANISMS)


def test_the_flags_of_a_variant_make_its_configuration() -> None:
    for recipe, common, drop in [
        ("tiny_top", ["--score.ttt=off"], ["loop", "table_decay"]),
        ("seed_windowed", [], ["window"]),
    ]:
        for variant in variants(recipe, common, drop, [])[1:]:
            (_, parsed) = variants(recipe, [*common, *variant.flags], [], ["same:"])
            assert parsed.config == variant.config


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
        ([], ["a: --seed 1"], "a: --seed: each run gets its own; name --first-seed and --seeds of the ablation"),
        (["ema"], ["ema: --train.min-lr 0.1"], "ema: there are two variants of this name"),
        ([], ["whole: --train.min-lr 0.1"], "whole: there are two variants of this name"),
    ],
)
def test_what_cannot_be_left_out_is_named(drop: list[str], change: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        variants("tiny", [], drop, change)
    assert says in str(caught.value)
