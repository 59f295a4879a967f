#!/bin/sh
# Sends one signed webhook to the controller's receiver, as a forge would.
#
#   send-webhook.sh --url https://hooks.example.com/hook/<digest> --secret-file token.txt
#   send-webhook.sh --url ... --secret-file token.txt --forge gitlab-token --body push.json
#
# --forge   generic (default), github, gitlab, gitlab-token, bitbucket-cloud, bitbucket-server, gitea
# --body    file with the JSON to send; samples/<forge>.json beside this script when not given
#
# The secret is never an argument of a process, so that no process list shows it. Needs openssl and curl.
# Exit codes: 0 accepted, 22 refused by the receiver, 64 wrong use, else curl's own.
set -eu
umask 077
LC_ALL=C
export LC_ALL

fail() {
    echo "send-webhook: $1" >&2
    exit 64
}

url='' secret_file='' forge=generic body=''
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
        --url) url=$2 ;;
        --secret-file) secret_file=$2 ;;
        --forge) forge=$2 ;;
        --body) body=$2 ;;
        *) fail "unknown option $1; see the head of this file" ;;
    esac
    shift 2
done

here=$(cd "$(dirname "$0")" && pwd)
sample=$forge
[ "$forge" != gitlab-token ] || sample=gitlab
body=${body:-$here/samples/$sample.json}
[ -n "$url" ] || fail "give --url, the webhook address and the path from status.webhookPath"
[ -r "$secret_file" ] || fail "give --secret-file, a readable file with the token of the webhook's Secret"
[ -r "$body" ] || fail "cannot read the body $body"
for tool in openssl curl od; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is not on PATH"
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The token without the line break that an editor leaves at its end; `key` is what HMAC signs with.
printf '%s' "$(cat "$secret_file")" >"$folder/token"
[ -s "$folder/token" ] || fail "$secret_file is empty"
cp "$folder/token" "$folder/key"

# HMAC-SHA256 of a file, as RFC 2104 writes it; openssl would want the key as an argument.
pad() {
    count=0
    for byte in $(od -An -v -tx1 <"$folder/block"); do
        printf '%b' "\\0$(printf '%03o' $((0x$byte ^ $1)))"
        count=$((count + 1))
    done
    while [ "$count" -lt 64 ]; do
        printf '%b' "\\0$(printf '%03o' "$1")"
        count=$((count + 1))
    done
}
hmac() {
    if [ "$(wc -c <"$folder/key")" -gt 64 ]; then
        openssl dgst -sha256 -binary <"$folder/key" >"$folder/block"
    else
        cp "$folder/key" "$folder/block"
    fi
    { pad 54 && cat "$1"; } | openssl dgst -sha256 -binary >"$folder/inner"
    { pad 92 && cat "$folder/inner"; } | openssl dgst -sha256 -binary
}
hex() { od -An -v -tx1 | tr -d ' \n'; }

identity=$(openssl rand -hex 16 | sed 's/\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)/\1-\2-\3-\4-/')
{
    echo "Content-Type: application/json"
    case $forge in
        generic)
            echo "X-Delivery-Id: $identity"
            echo "X-Signature: sha256=$(hmac "$body" | hex)"
            ;;
        github)
            echo "X-GitHub-Event: push"
            echo "X-GitHub-Delivery: $identity"
            echo "X-Hub-Signature-256: sha256=$(hmac "$body" | hex)"
            ;;
        gitea)
            echo "X-Gitea-Event: push"
            echo "X-Gitea-Delivery: $identity"
            echo "X-Gitea-Signature: $(hmac "$body" | hex)"
            ;;
        bitbucket-cloud)
            echo "X-Event-Key: repo:push"
            echo "X-Request-UUID: $identity"
            echo "X-Hub-Signature: sha256=$(hmac "$body" | hex)"
            ;;
        bitbucket-server)
            echo "X-Event-Key: repo:refs_changed"
            echo "X-Request-Id: $identity"
            echo "X-Hub-Signature: sha256=$(hmac "$body" | hex)"
            ;;
        gitlab-token)
            echo "X-Gitlab-Event: Push Hook"
            echo "Idempotency-Key: $identity"
            echo "X-Gitlab-Token: $(cat "$folder/token")"
            ;;
        gitlab)
            case $(cat "$folder/token") in
                whsec_*) sed 's/^whsec_//' "$folder/token" | openssl base64 -d -A >"$folder/key" ;;
            esac
            stamp=$(date +%s)
            { printf '%s.%s.' "$identity" "$stamp" && cat "$body"; } >"$folder/signed"
            echo "X-Gitlab-Event: Push Hook"
            echo "webhook-id: $identity"
            echo "webhook-timestamp: $stamp"
            echo "webhook-signature: v1,$(hmac "$folder/signed" | openssl base64 -A)"
            ;;
        *) fail "no forge $forge; see the head of this file" ;;
    esac
} >"$folder/headers"

code=0
curl --silent --show-error --max-time 20 --output "$folder/answer" --write-out '%{http_code}' \
    --header "@$folder/headers" --data-binary "@$body" -- "$url" >"$folder/status" || code=$?
[ "$code" -eq 0 ] || exit "$code"
echo "$(cat "$folder/status") $(cat "$folder/answer")"
case $(cat "$folder/status") in
    2??) ;;
    *) exit 22 ;;
esac
