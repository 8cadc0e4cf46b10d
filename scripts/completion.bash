# Completion of lamina's sub-commands and options for bash: source this file, or put it into
# /usr/share/bash-completion/completions/lamina. The options are asked of the binary itself.

_lamina_words() {
  # Sub-commands or long options, as the help of "$@" lists them.
  "$@" --help 2>/dev/null | sed -nE 's/^  +(-[a-zA-Z],)?(--[a-z-]+).*/\2/p; /^Subcommands:/,$ s/^  ([a-z]+) .*/\1/p'
}

_lamina() {
  local word=${COMP_WORDS[COMP_CWORD]} command=() choices
  [[ ${COMP_CWORD} -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=("${COMP_WORDS[1]}")
  # `tags` and `cache` have commands of their own.
  [[ ${COMP_CWORD} -gt 2 && ( ${command[0]} == tags || ${command[0]} == cache ) ]] && command+=("${COMP_WORDS[2]}")
  choices=$(_lamina_words "${COMP_WORDS[0]}" "${command[@]}")
  if [[ ${#command[@]} -gt 0 && ${word} != -* ]]; then
    case "${command[*]}" in
      doctor)
        if [[ ${word} == /* ]]; then
          mapfile -t COMPREPLY < <(compgen -d -- "${word}"); return
        fi
        choices=$("${COMP_WORDS[0]}" ls --json 2>/dev/null |
          sed -nE 's/^ *"repository": "(.*)",?$/\1/p' | sort -u) ;;
      resolve | inspect | fetch | forget | ls | cat | tree | alias | tags\ * | cache\ verify | cache\ clear | cache\ pin | cache\ unpin)
        choices=$("${COMP_WORDS[0]}" ls --json 2>/dev/null |
          sed -nE 's/^ *"repository": "(.*)",?$/\1/p' | sort -u) ;;
      add)
        if [[ ${word} == *:* || ${COMP_WORDS[COMP_CWORD - 1]} == : ]]; then
          mapfile -t COMPREPLY < <(compgen -f -- "${word##*:}"); return
        fi
        choices="oci: oci-archive: docker-archive:" ;;
      mount | umount) mapfile -t COMPREPLY < <(compgen -d -- "${word}"); return ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "${choices}" -- "${word}")
}

complete -F _lamina lamina
