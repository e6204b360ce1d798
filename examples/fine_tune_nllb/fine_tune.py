"""Fine-tune NLLB; after the early checkpoints, keep half of the bitext and go on with that.

    python fine_tune.py facebook/nllb-200-distilled-600M train.en train.de eng_Latn deu_Latn

Run it again if it was killed: finished steps are skipped. If that was before the first training ended, remove
`run/early` and `run/trainer` first: it starts from the beginning.
"""

import sys
from pathlib import Path

import catprune
from catprune.hugging_face import EarlyCheckpoints
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Seq2SeqTrainer, Seq2SeqTrainingArguments

model_name, source, target, source_code, target_code = sys.argv[1:6]
early_steps, last_early, steps = sys.argv[6:] or ("500steps,2000steps", "2000", "20000")
tokenizer = AutoTokenizer.from_pretrained(model_name, src_lang=source_code, tgt_lang=target_code)
model = AutoModelForSeq2SeqLM.from_pretrained(model_name)
early = EarlyCheckpoints("run/early", early_steps, stop=True)
arguments = Seq2SeqTrainingArguments(
    "run/trainer",
    max_steps=int(steps),
    per_device_train_batch_size=32,
    learning_rate=1e-4,
    warmup_steps=min(500, int(last_early)),
    remove_unused_columns=False,
    ignore_data_skip=True,  # the second half has other data
    report_to=[],
)


def collate(pairs):
    sources, targets = [pair["source"] for pair in pairs], [pair["target"] for pair in pairs]
    options = {"max_length": 256, "truncation": True, "padding": True, "return_tensors": "pt"}
    batch = tokenizer(sources, text_target=targets, **options)
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    return batch


def trainer(data, *callbacks):
    return Seq2SeqTrainer(model, arguments, collate, data, processing_class=tokenizer, callbacks=list(callbacks))


catprune.clean([source, target], out="run/clean")
if not Path(f"run/trainer/checkpoint-{last_early}/trainer_state.json").exists():  # the trainer writes it last
    trainer(catprune.open_corpus("run/clean").to_dataset("run/all.arrow"), early).train()
catprune.score(
    "run/clean", checkpoints=early.folders, out="run/scores", source_lang=source_code, target_lang=target_code
)
catprune.select("run/scores", method="progress", keep="50%", out="run/kept")
kept = catprune.open_corpus("run/clean", selection="run/kept").to_dataset("run/kept.arrow")
trainer(kept).train(resume_from_checkpoint=True)
model.save_pretrained("run/model")
tokenizer.save_pretrained("run/model")
