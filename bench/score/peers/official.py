"""The official DROP evaluator on rows of {"predicted": [...], "golds": [[...], ...]}: EM and F1 a line out, and on stdout the
seconds that its own functions took. Reading, writing and imports are not counted.

    python official.py EVALUATOR.py ROWS.jsonl OUT.jsonl
"""
import importlib.util
import json
import sys
import time

specification = importlib.util.spec_from_file_location("evaluator", sys.argv[1])
evaluator = importlib.util.module_from_spec(specification)
specification.loader.exec_module(evaluator)
rows = [json.loads(line) for line in open(sys.argv[2]) if line.strip()]

began = time.perf_counter()
scored = []
for row in rows:
    # As its evaluate_json takes the best over annotators: each figure by itself, no gold whose first span is blank.
    em = f1 = 0.0
    for gold in row["golds"]:
        if gold and gold[0].strip() != "":
            one_em, one_f1 = evaluator.get_metrics(row["predicted"], gold)
            em, f1 = max(em, one_em), max(f1, one_f1)
    scored.append((em, f1))
seconds = time.perf_counter() - began

with open(sys.argv[3], "w") as out:
    out.writelines(json.dumps({"em": float(em), "f1": float(f1)}) + "\n" for em, f1 in scored)
print(json.dumps({"scoring": seconds}))
