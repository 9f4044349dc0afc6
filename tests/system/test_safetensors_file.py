"""Files of tensors are the same, byte for byte, where their content is."""

import torch
from safetensors import safe_open

from pruning_lit.system.safetensors_file import write_safetensors


def test_the_same_content_makes_the_same_file(tmp_path):
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.arange(3)}
    metadata = {name: f'{name}, "quoted" \\ é\n\t\u2028/\x7f' for name in ("five", "six", "seven", "eight")}
    files = []
    for number in range(8):  # 24 orders that the metadata could have
        write_safetensors(tmp_path / str(number), tensors, metadata)
        files.append((tmp_path / str(number)).read_bytes())
    assert len({*files}) == 1
    with safe_open(tmp_path / "0", "pt") as file:
        assert file.metadata() == metadata
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_a_file_can_be_read_by_those_who_can_read_other_files_of_the_user(tmp_path):
    write_safetensors(tmp_path / "network.safetensors", {"x": torch.zeros(2)}, {"a": "b"})
    (tmp_path / "text").write_text("")
    modes = [(tmp_path / name).stat().st_mode for name in ("network.safetensors", "text")]
    assert modes[0] == modes[1]
