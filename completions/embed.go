// Package completions holds what shells need to complete agentbox's command line, one file a shell, as agentbox ships
// them.
//
// It owns the files. All of them ask `agentbox __complete` with the words as they stand on the command line, and none
// hands a word to eval: a key press runs nothing but agentbox.
package completions

import "embed"

//go:embed agentbox.bash _agentbox agentbox.fish agentbox.ps1
var files embed.FS

// names are the files by the shell's name.
func names() map[string]string {
	return map[string]string{"bash": "agentbox.bash", "zsh": "_agentbox", "fish": "agentbox.fish", "powershell": "agentbox.ps1"}
}

// For gives the script for "bash", "zsh", "fish" or "powershell"; ok is false for any other shell.
func For(shell string) (script []byte, ok bool) {
	name, ok := names()[shell]
	if !ok {
		return nil, false
	}
	script, err := files.ReadFile(name)
	return script, err == nil
}
