"""Fine-tune a decoder-only model to translate; keep half of the bitext after the early checkpoints.

    python fine_tune.py Qwen/Qwen3-0.6B train.en train.de

The loss covers the translation and its end, not the prompt, in training and in scoring. Run it again if it was
killed; if that was before the first training ended, remove `run/early` and `run/trainer` first.
"""

import sys
from pathlib import Path

import catprune
import torch
from catprune.hugging_face import EarlyCheckpoints
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

model_name, source, target = sys.argv[1:4]
early_steps, last_early, steps = sys.argv[4:] or ("500steps,2000steps", "2000", "20000")
LONGEST = 512  # tokens of a prompt and its translation
PROMPT = "English: {source}\nGerman: "
tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModelForCausalLM.from_pretrained(model_name)
early = EarlyCheckpoints("run/early", early_steps, stop=True)
arguments = TrainingArguments(
    "run/trainer",
    max_steps=int(steps),
    per_device_train_batch_size=16,
    learning_rate=1e-5,
    warmup_steps=min(100, int(last_early)),
    remove_unused_columns=False,
    ignore_data_skip=True,
    report_to=[],
)


def collate(pairs):
    prompts = [PROMPT.format(source=pair["source"]) for pair in pairs]
    texts = [prompt + pair["target"] for prompt, pair in zip(prompts, pairs, strict=True)]
    options = {"truncation": True, "max_length": LONGEST, "add_special_tokens": True}
    batch = tokenizer(texts, padding=False, return_offsets_mapping=True, **options)
    rows, labels = [], []
    for ids, offsets, prompt in zip(batch["input_ids"], batch["offset_mapping"], prompts, strict=True):
        text = ids[:-1] if ids[-1] == tokenizer.eos_token_id else ids
        row = [*text, tokenizer.eos_token_id] if len(ids) < LONGEST else text  # what was cut has no end
        # A token belongs to the translation if it ends behind the prompt.
        own = [end > len(prompt) for _, end in offsets[: len(text)]] + [True] * (len(row) - len(text))
        rows.append(torch.tensor(row))
        labels.append(torch.tensor([label if counts else -100 for label, counts in zip(row, own, strict=True)]))
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(row) for row in rows])
    return {
        "input_ids": pad(rows, batch_first=True, padding_value=tokenizer.eos_token_id),
        "labels": pad(labels, batch_first=True, padding_value=-100),
        "attention_mask": torch.arange(int(lengths.max()))[None, :] < lengths[:, None],
    }


def trainer(data, *callbacks):
    return Trainer(model, arguments, collate, data, processing_class=tokenizer, callbacks=list(callbacks))


catprune.clean([source, target], out="run/clean")
if not Path(f"run/trainer/checkpoint-{last_early}/trainer_state.json").exists():  # the trainer writes it last
    trainer(catprune.open_corpus("run/clean").to_dataset("run/all.arrow"), early).train()
catprune.score("run/clean", checkpoints=early.folders, out="run/scores", prompt=PROMPT)
catprune.select("run/scores", method="progress", keep="50%", out="run/kept")
kept = catprune.open_corpus("run/clean", selection="run/kept").to_dataset("run/kept.arrow")
trainer(kept).train(resume_from_checkpoint=True)
model.save_pretrained("run/model")
tokenizer.save_pretrained("run/model")
