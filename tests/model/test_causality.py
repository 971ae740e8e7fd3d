"""What a prediction may depend on: tokens up to its own position, in its own row, and nothing else (rule C1)."""

import pytest
import torch
from oracle import package, plain_state
from oracle.plain_model import Plain, bigram_rows

from golf_fast.model import GPT

LENGTH = 11
SMALL = Plain(vocab_size=50, dim=32, layers=4, heads=4, kv_heads=2, bigram_buckets=47, bigram_dim=8)
NOISE = 1e-12  # float64; a changed token moves logits by more than 1e-4


def random_model(**changed: float) -> GPT:
    """A random float64 model; `changed` fills parameters whose public name ends so (dots as double underscores)."""
    generator = torch.Generator().manual_seed(7)
    state = plain_state.randomized(plain_state.initial_state(SMALL, generator), generator)
    for ending, value in changed.items():
        names = [name for name in state if name.endswith(ending.replace("__", "."))]
        assert names
        for name in names:
            state[name] = torch.full_like(state[name], value)
    return package.build(SMALL, plain_state.cast(state, torch.float64))


def moved(model: GPT, tokens: torch.Tensor, row: int, position: int) -> torch.Tensor:
    """How far each position's logits `[B, T]` move when one token changes."""
    other = tokens.clone()
    other[row, position] = (other[row, position] + 17) % SMALL.vocab_size
    with torch.no_grad():
        return (model.logits(other) - model.logits(tokens)).abs().amax(dim=2)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, SMALL.vocab_size, (2, LENGTH), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("position", range(LENGTH))
def test_a_token_moves_nothing_before_it(tokens, position):
    change = moved(random_model(), tokens, 1, position)
    assert float(change[0].max()) == 0
    assert position == 0 or float(change[1, :position].max()) < NOISE
    assert float(change[1, position:].min()) > 1e-4, "every later position should see the change through attention"


@pytest.mark.parametrize(
    ("what", "changed", "reach"),
    [
        ("smear and bigram", {}, 2),
        ("smear", {"bigram__scale": 0.0}, 1),
        ("bigram", {"smear__gate": -60.0}, 1),
        ("neither", {"bigram__scale": 0.0, "smear__gate": -60.0}, 0),
    ],
)
def test_without_attention_a_token_reaches_just_its_neighbours(tokens, what, changed, reach):
    """Bigram and smear look back by one each: with attention out of the way, exactly so far and never forward."""
    model = random_model(attn__proj__weight=0.0, **changed)
    for position in (0, 4, LENGTH - 1):
        change = moved(model, tokens, 0, position)[0]
        inside = torch.zeros(LENGTH, dtype=torch.bool)
        inside[position : position + reach + 1] = True
        assert float(change[inside].min()) > 1e-4, what
        assert float(change[~inside].max()) < NOISE, what


def test_a_target_moves_its_own_loss_alone(tokens):
    model = random_model()
    targets = tokens.roll(-1, dims=1)
    other = targets.clone()
    other[0, 5] = (other[0, 5] + 1) % SMALL.vocab_size
    with torch.no_grad():
        change = (model.token_losses(tokens, other) - model.token_losses(tokens, targets)).abs()
    assert float(change[0, 5]) > 1e-4
    change[0, 5] = 0
    assert float(change.max()) == 0


def test_gradients_reach_back_and_never_forward(tokens):
    """The loss of one position has no gradient in the bigram row of a token that comes after it."""
    model = random_model()
    row = torch.arange(LENGTH)[None]
    loss = model.token_losses(row, row.roll(-1, dims=1))[0, 6]
    gradient = torch.autograd.grad(loss, model.bigram_embed)[0]
    reached = gradient.abs().amax(dim=1) > 0
    assert set(reached.nonzero()[:, 0].tolist()) == set(bigram_rows(row[0, :7], SMALL.bigram_buckets).tolist())


def test_cut_rows_predict_the_same(tokens):
    """A prediction from the first tokens alone is the one inside the longer row."""
    model = random_model()
    with torch.no_grad():
        whole = model.logits(tokens)
        for length in (1, 2, 7):
            assert float((model.logits(tokens[:, :length]) - whole[:, :length]).abs().max()) < NOISE
