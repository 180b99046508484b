#!/usr/bin/env bash
# The session of docs/terminal.svg. Run its command once before, so that the cache answers:
#   asciinema rec --cols 84 --rows 40 --overwrite -c tools/terminal_session.sh terminal.cast
#   npx svg-term-cli --in terminal.cast --out docs/terminal.svg --window --no-cursor
#   python tools/last_frame.py docs/terminal.svg
show() {
    for ((i = 0; i < ${#1}; i++)); do
        printf '%s' "${1:i:1}"
        sleep 0.03
    done
    printf '\n'
    eval "$1"
    sleep "$2"
    printf '$ '
}
printf '$ '
show 'modgap discrepancy --source vit-fashion --target digits --control' 6
