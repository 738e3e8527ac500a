package modelserver

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

// tool is a tool that an agent offers, whatever its API calls it.
type tool struct {
	name      string
	namespace string // empty for most
	free      bool   // takes a text, not an object (OpenAI's custom tools)
	schema    schema
}

// conversation is what a request tells, whatever its API.
type conversation struct {
	tools   []tool
	results []string // of tools, since the person's last message
	answer  *schema  // the shape that the answer must have, if the request asks for one
	texts   []string // all instructions and messages, to find the working directory in
}

// said notes a message of the person's or of the agent on their behalf. A new message of the person's starts the
// task anew; what agents add by themselves in between comes in angle brackets and does not.
func (c *conversation) said(text string) {
	c.texts = append(c.texts, text)
	if t := strings.TrimSpace(text); t != "" && !strings.HasPrefix(t, "<") {
		c.results = nil
	}
}

func (c *conversation) returned(result string) { c.results = append(c.results, result) }

// step is what the model answers: a tool call or a text.
type step struct {
	turn  int // as Request.Turn
	tool  *tool
	input obj    // the call's arguments; {"input": text} for a free tool
	text  string // when tool is nil
}

func (s step) inputJSON() string {
	b, _ := json.Marshal(s.input) // of strings and schema samples: cannot fail
	return string(b)
}

var (
	writers = []string{"Write", "write_file", "write", "editor", "apply_patch", scripted}
	shells  = []string{"Bash", "run_shell_command", "bash", "exec_command", "shell_command", "shell", "run_commands", scripted}
)

// scripted is Codex's tool that runs JavaScript, out of which its other tools are called.
const scripted = "exec"

// run makes the arguments with which a shell tool runs line.
func (w tool) run(line string) obj {
	if w.name == scripted {
		return script("exec_command", obj{"cmd": line})
	}
	return w.schema.command(line)
}

func script(function string, argument any) obj {
	b, _ := json.Marshal(argument) // of strings: cannot fail
	return obj{"input": "text(await tools." + function + "(" + string(b) + "));\n"}
}

// next decides the answer to a conversation.
func (t Task) next(c conversation) step {
	if c.answer != nil {
		b, _ := json.Marshal(c.answer.sample())
		return step{text: string(b)}
	}
	writer, shell := c.find(writers), c.find(shells)
	if writer == nil && shell != nil {
		writer = shell
	}
	switch {
	case shell == nil:
		return step{text: "hello"}
	case len(c.results) == 0:
		return step{turn: 1, tool: writer, input: t.write(*writer, c.directory())}
	case len(c.results) == 1:
		return step{turn: 2, tool: shell, input: shell.run(t.Command)}
	default:
		return step{turn: 3, text: t.Final}
	}
}

func (c conversation) find(names []string) *tool {
	for _, name := range names {
		for i := range c.tools {
			if c.tools[i].name == name {
				return &c.tools[i]
			}
		}
	}
	return nil
}

// write makes the arguments with which w writes the task's file.
func (t Task) write(w tool, dir string) obj {
	name := t.File
	if dir != "" && !path.IsAbs(name) {
		name = path.Join(dir, name)
	}
	switch {
	case w.name == "apply_patch":
		return obj{"input": patch(t.File, t.Content)}
	case w.name == scripted:
		return script("apply_patch", patch(t.File, t.Content))
	case slices.Contains(shells, w.name):
		return w.run("printf %s " + quote(t.Content) + " > " + quote(t.File))
	}
	return w.schema.fill(func(property string) (any, bool) {
		switch property {
		case "file_path", "filePath", "filepath", "path", "absolute_path":
			return name, true
		case "content", "text", "new_text":
			return t.Content, true
		}
		return nil, false
	})
}

// patch is Codex's own format for adding a file.
func patch(name, content string) string {
	var b strings.Builder
	b.WriteString("*** Begin Patch\n*** Add File: " + name + "\n")
	for _, line := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
		b.WriteString("+" + line + "\n")
	}
	b.WriteString("*** End Patch\n")
	return b.String()
}

var directories = regexp.MustCompile(`(?m)(?:[Ww]orking directory: |<cwd>|working in the director(?:y|ies): |Workspace Directories:\**\s*- )\s*(/[^\n<]*)`)

// directory is where the agent says it works, or empty. Agents' file tools want absolute names.
func (c conversation) directory() string {
	for _, text := range c.texts {
		if m := directories.FindStringSubmatch(text); m != nil {
			return strings.TrimSpace(m[1])
		}
	}
	return ""
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
