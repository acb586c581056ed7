#!/usr/bin/env bash
# `retort serve` on a real model, asked by retort's own teacher client, by lm-evaluation-harness and by OpenAI's client.
#
# Usage:  examples/serve/compare.sh DATA VENV [BASE]
#   DATA  a folder with svamp/train.jsonl, svamp/test.jsonl and csqa/test.jsonl, as recipe.yaml beside this file says
#   VENV  a Python environment: python3 -m venv VENV && VENV/bin/pip install "lm-eval[api]" transformers openai
#   BASE  a checkpoint folder or a GGUF file; by default SmolLM2-135M-Instruct from the Hugging Face hub
#   The environment variable RETORT names the binary; by default `retort`. Nothing is fetched but the default model.
#
# With SmolLM2-135M-Instruct (Q4_1) as BASE and lm-eval 0.4.13 it printed the following. Accuracies of five questions say nothing
# of the model; equal answers say that the endpoint adds and loses nothing.
#
#   == retort's own answers to five SVAMP questions
#   serving `base` at http://127.0.0.1:35753/v1; Ctrl-C ends it
#   == the teacher client: two questions, two perspectives, through the endpoint
#   rationales: 4 completions, 4 of them new: 610 prompt and 404 completion tokens
#   == lm-eval, local-chat-completions: the same five questions
#   |  Tasks   |Version|  Filter   |n-shot|  Metric   |   |Value|   |Stderr|
#   |----------|------:|-----------|-----:|-----------|---|----:|---|-----:|
#   |svamp_here|      1|last-number|     0|exact_match|↑  |    0|±  |     0|
#   5 of 5 answers are those of `evaluate`, letter for letter; its profile `mind` finds 0 right
#   == lm-eval, local-completions: log-likelihoods of the choices of five CommonsenseQA questions, as tokens and as text
#   |  Tasks  |Version|Filter|n-shot|Metric|   |Value|   |Stderr|
#   |---------|------:|------|-----:|------|---|----:|---|-----:|
#   |csqa_here|      1|none  |     0|acc   |↑  |    0|±  |     0|
#   |  Tasks  |Version|Filter|n-shot|Metric|   |Value|   |Stderr|
#   |---------|------:|------|-----:|------|---|----:|---|-----:|
#   |csqa_here|      1|none  |     0|acc   |↑  |    0|±  |     0|
#   == OpenAI's client: whole, streamed, and with log-probabilities
#   '2 + 3 = 5' streamed alike: True
#   'The capital of France is Paris' [None, -11.54, -0.34, -2.44, -0.45, -0.26]
#   == the server ended with exit code 0
set -euo pipefail

data=$(realpath "$1")
venv=$(realpath "$2")
retort=${RETORT:-retort}
recipe=$(realpath "$(dirname "$0")")/recipe.yaml
work=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

export RETORT_STORE=$work/store HF_HOME=$work/cache HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
sets=(--set "vars.data=$data")
if [ $# -gt 2 ]; then sets+=(--set "vars.base={folder: {path: $(realpath "$3")}}"); fi
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }

echo "== retort's own answers to five SVAMP questions"
quietly "$retort" run "$recipe" scores choices "${sets[@]}"
questions() { echo "$("$retort" show "$recipe" "$1" --path "${sets[@]}")/questions.jsonl"; }
scores=$("$retort" show "$recipe" scores --path "${sets[@]}")

"$retort" serve "$recipe" base --port 0 "${sets[@]}" >"$work/address" 2>"$work/serve.log" &
server=$!
until [ -s "$work/address" ]; do
  kill -0 "$server" 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
  sleep 0.2
done
url=$(cat "$work/address")
cat "$work/serve.log"

echo "== the teacher client: two questions, two perspectives, through the endpoint"
quietly "$retort" run "$recipe" rationales "${sets[@]}" --set "vars.base_url=$url"
sed -n 's/^  note   //p' "$work/log"

# lm-eval's own tasks fetch their data; these read the questions retort has just asked.
mkdir "$work/tasks"
cat >"$work/tasks/svamp.yaml" <<YAML
task: svamp_here
dataset_path: json
dataset_kwargs: {data_files: {test: "$(questions test)"}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}\nPlease reason step by step, and put your final answer within \\\\boxed{}."
doc_to_target: "{{answer}}"
generation_kwargs: {until: [], do_sample: false, temperature: 0, max_gen_toks: 192}
filter_list:
  - name: last-number
    filter: [{function: regex, regex_pattern: '(-?[0-9][0-9.,]*[0-9]|-?[0-9])', group_select: -1}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
YAML
cat >"$work/tasks/csqa.yaml" <<YAML
task: csqa_here
dataset_path: json
dataset_kwargs: {data_files: {test: "$(questions choices)"}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\n{% for choice in choices %}{{'ABCDE'[loop.index0]}}. {{choice}}\n{% endfor %}Answer:"
doc_to_target: answer
doc_to_choice: [A, B, C, D, E]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
YAML
harness() {
  "$venv/bin/lm_eval" run --include_path "$work/tasks" --output_path "$work/out" --log_samples "$@" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
  grep '^|' "$work/log"
}

echo "== lm-eval, local-chat-completions: the same five questions"
harness --model local-chat-completions --model_args "model=base,base_url=$url/chat/completions" \
  --tasks svamp_here --apply_chat_template
"$venv/bin/python" - "$scores/predictions.jsonl" "$work"/out/*/samples_svamp_here_*.jsonl <<'PYTHON'
import json, sys
ours, theirs = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
ours = {row["id"]: row for row in ours}
same = sum(ours[row["doc"]["id"]]["text"] == row["resps"][0][0] for row in theirs)
right = sum(row["correct"] for row in ours.values())
print(f"{same} of {len(theirs)} answers are those of `evaluate`, letter for letter; its profile `mind` finds {right} right")
PYTHON

echo "== lm-eval, local-completions: log-likelihoods of the choices of five CommonsenseQA questions, as tokens and as text"
quietly "$retort" export "$recipe" base "$work/tokenizer" "${sets[@]}"
rm "$work/tokenizer/model.safetensors"
for tokens in True False; do
  harness --model local-completions --tasks csqa_here \
    --model_args "model=base,base_url=$url/completions,tokenizer=$work/tokenizer,tokenized_requests=$tokens"
done

echo "== OpenAI's client: whole, streamed, and with log-probabilities"
"$venv/bin/python" - "$url" <<'PYTHON'
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
model = client.models.list().data[0].id
asked = dict(model=model, messages=[{"role": "user", "content": "What is 2 + 3?"}], max_tokens=16, temperature=0)
whole = client.chat.completions.create(**asked).choices[0].message.content
pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
print(repr(whole), "streamed alike:", "".join(pieces) == whole)
text = client.completions.create(
    model=model, prompt="The capital of France is", max_tokens=1, temperature=0, logprobs=1, echo=True
).choices[0]
print(repr(text.text), [value and round(value, 2) for value in text.logprobs.token_logprobs])
PYTHON

kill -INT "$server"
code=0
wait "$server" || code=$?
server=
echo "== the server ended with exit code $code"
