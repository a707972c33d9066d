"""Writes a Llama model with random weights, for tests that compare a GPU with the processor.

usage: random_model.py f32|f16 FILE

Two layers of width 256 and a vocabulary of bytes: small enough to run anywhere, wide enough for every quantised format (their blocks
hold up to 256 weights). The weights come from a fixed seed, so that every run writes the same file.
"""

import sys

import gguf
import numpy as np

LAYERS, WIDTH, INNER, HEADS, KV_HEADS, CONTEXT = 2, 256, 768, 4, 2, 1024
HEAD = WIDTH // HEADS
SPECIAL = ["<unk>", "<s>", "</s>"]


def vocabulary():
    tokens = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256
    while len(tokens) % 32:
        tokens.append(f"<unused{len(tokens)}>")
        kinds.append(gguf.TokenType.UNUSED)
    return tokens, kinds


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("f32", "f16"):
        sys.exit(__doc__)
    half = sys.argv[1] == "f16"
    random = np.random.default_rng(20261120)
    writer = gguf.GGUFWriter(sys.argv[2], "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    tokens, kinds = vocabulary()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def matrix(name, rows, columns, scale=1.0):
        values = random.standard_normal((rows, columns), dtype=np.float32)
        values *= scale / np.sqrt(np.float32(columns))
        writer.add_tensor(name, values.astype(np.float16) if half else values)

    def norm(name):
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    # Wide logits: where all are alike, the most likely token is chance.
    matrix("token_embd.weight", len(tokens), WIDTH, 16.0)
    norm("output_norm.weight")
    matrix("output.weight", len(tokens), WIDTH, 6.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        matrix(block + "attn_q.weight", WIDTH, WIDTH)
        matrix(block + "attn_k.weight", KV_HEADS * HEAD, WIDTH)
        matrix(block + "attn_v.weight", KV_HEADS * HEAD, WIDTH)
        matrix(block + "attn_output.weight", WIDTH, WIDTH)
        norm(block + "ffn_norm.weight")
        matrix(block + "ffn_gate.weight", INNER, WIDTH)
        matrix(block + "ffn_up.weight", INNER, WIDTH)
        matrix(block + "ffn_down.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
