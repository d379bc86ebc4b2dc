"""Reads the logs of a folder with Inspect: inspect_log.py FOLDER SAMPLES."""

import sys

from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample

folder, count = sys.argv[1], int(sys.argv[2])
logs = list_eval_logs(folder)
assert len(logs) == 3, logs
solvers = set()
for info in logs:
    assert read_eval_log(info, header_only=True).results.total_samples == count
    log = read_eval_log(info, resolve_attachments=True)
    solvers.add(log.eval.solver)
    assert (log.status, log.version, log.eval.task, log.eval.model) == ("success", 2, "school", "big"), log.eval
    assert len(log.samples) == count and log.eval.dataset.samples == count
    right = sum(sample.scores["divvy"].value == "C" for sample in log.samples)
    assert abs(right / count - log.results.scores[0].metrics["accuracy"].value) < 1e-9, (right, log.results)
    sample = log.samples[0]
    assert sample.messages[-1].role == "assistant" and sample.messages[0].role == "system", sample.messages
    assert sample.output.completion == sample.messages[-1].text and sample.target, sample.output
    assert sample.output.usage.output_tokens > 0 and "big" in sample.model_usage
    assert read_eval_log_sample(info, id=sample.id).input == sample.input
assert solvers == {"direct/big", "cot/big", "two-stage/teacher/big"}, solvers
print("ok")
