#!/usr/bin/env bash
# bash curl.sh http://127.0.0.1:8787/v1 two-stage/sd-t/qwen-1.5b
set -euo pipefail
base_url="$1" model="$2"

curl --fail-with-body --silent --show-error "$base_url/models"
echo

ask() {
    curl --fail-with-body --silent --show-error --no-buffer "$base_url/chat/completions" \
        --header 'content-type: application/json' \
        --data "{\"model\": \"$model\", \"stream\": $1, \"messages\": [{\"role\": \"user\", \"content\": \"How many are 3 boxes of 12 pens?\"}]}"
}

ask false | grep --quiet '"finish_reason"'
ask true | tail --lines 2 | grep --quiet '^data: \[DONE\]$'
echo ok
