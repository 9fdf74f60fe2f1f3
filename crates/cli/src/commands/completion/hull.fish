# fish completion for @BIN@: `@BIN@ completion fish | source`
function __@BIN@_complete
    set -l words (commandline -opc) (commandline -ct)
    @BIN@ __complete -- $words[2..-1] 2>/dev/null
end
complete -c @BIN@ -a '(__@BIN@_complete)'
