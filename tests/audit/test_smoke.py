"""The box in which a script is imported: what it finds, and what it keeps the script from."""

from golf_fast.audit.script.smoke import smoke

SIZES = "class Hyperparameters:\n    num_layers = 3\n    model_dim = 64\n    vocab_size = 1024\n\n"


def test_sizes_are_found_and_what_is_not_installed_is_a_stub() -> None:
    found = smoke(
        "import socket, os\nimport flash_attn_interface.missing as fa\nimport torch\n\n"
        f"{SIZES}"
        "recipe = {'model': {'vocab_size': 300}}\n"  # what a built file changes of the defaults
        "@fa.decorate\nclass Net(torch.nn.Module):\n    pass\n\n"
        "refused = False\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError:\n    refused = True\n"
        "assert refused\nassert 'SECRET' not in os.environ\nprint('noise')\n"
        "if __name__ == '__main__':\n    raise SystemExit('never')\n"
    )
    assert found.error is None
    assert found.imported
    assert (found.dim, found.layers, found.vocab) == (64, 3, 300)
    assert any(name.startswith("flash_attn_interface") for name in found.stubbed)


def test_a_script_that_does_not_end_is_ended() -> None:
    found = smoke("while True:\n    pass\n", seconds=6)
    assert not found.imported
    assert found.error is not None


def test_an_error_is_named() -> None:
    found = smoke("import torch\n1 / 0\n")
    assert not found.imported
    assert found.error == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in found.lines()[0]


def test_files_and_memory_are_limited() -> None:
    found = smoke("open('big', 'wb').write(bytes(1 << 27))\n")
    assert not found.imported
    found = smoke("x = bytearray(1 << 36)\n")
    assert found.error is not None
    assert "MemoryError" in found.error
