package starter

import (
	"strconv"
	"strings"

	"agentbox/internal/profiles"
)

// devcontainer reads a devcontainer.json. Most of it makes a container; agentbox makes its own.
func (d *draft) devcontainer(top node) {
	for _, m := range top.members() {
		v := m.value
		switch m.name {
		case "name", "$schema":
		case "image":
			d.image(v)
		case "build", "dockerFile", "context":
			d.build(v)
		case "dockerComposeFile", "service", "runServices":
			d.unless(v, Dropped, "no other containers are started; a service that the agent needs must be reachable by name, from a rule")
		case "features":
			for _, f := range v.members() {
				d.note(f.value, Dropped, "nothing is installed: what the machine has is there inside")
			}
		case "containerEnv", "remoteEnv":
			for _, e := range v.members() {
				d.variable(e.value, e.name)
			}
		case "secrets":
			for _, s := range v.members() {
				d.note(s.value, Dropped, "declare a [[credential]], and give the value to `agentbox secret set`")
			}
		case "mounts", "workspaceMount":
			d.unless(v, Dropped, "only the repository is there inside; a [[mount]] shows what else of this machine an agent needs")
		case "workspaceFolder":
			d.unless(v, Dropped, "the repository has the same path inside as outside")
		case "runArgs":
			d.runArgs(v)
		case "forwardPorts", "appPort", "portsAttributes", "otherPortsAttributes":
			d.unless(v, Dropped, "no port inside can be reached from this machine")
		case "initializeCommand":
			d.unless(v, Dropped, "nothing is run on this machine for a profile")
		case "onCreateCommand", "updateContentCommand", "postCreateCommand", "postStartCommand", "postAttachCommand":
			d.unless(v, Dropped, "nothing is run before the agent; `agentbox run shell -- …` runs a command in the same boundary")
		case "remoteUser", "containerUser", "updateRemoteUserUID":
			d.unless(v, Dropped, "the agent has your user's name and number, without its rights")
		case "privileged", "capAdd", "securityOpt":
			d.unless(v, Dropped, "the container never has rights beyond your own")
		case "hostRequirements":
			d.unless(v, Dropped, "it is what the machine must have; [limits] is what the agent may use of it")
		case "customizations", "extensions", "settings", "devPort":
			d.unless(v, Dropped, "it is for an editor")
		case "init", "overrideCommand", "shutdownAction", "waitFor", "userEnvProbe", "overrideFeatureInstallOrder", "gpu":
			d.unless(v, Dropped, "it is about a container that stays; a run's ends with it")
		default:
			d.unknown(v)
		}
	}
}

// image takes an image that is named as profiles name them. One without a digest is shown commented out.
func (d *draft) image(n node) {
	s, ok := n.text()
	if !ok {
		d.note(n, Dropped, "it should be a text")
		return
	}
	var named profiles.Image
	switch err := named.UnmarshalText([]byte(s)); {
	case err == nil && d.rooted():
		d.note(n, Dropped, "%q says already what the agent's root is", d.options.Base)
	case err == nil:
		d.root = Fact{"image = " + quote(s), where(n)}
		d.note(n, Narrower, "the agent's own program must be in the image too: where it is not, the run ends with 127")
	default:
		d.note(n, Dropped, "an image is named with its registry and its digest, because a tag can be another image tomorrow: "+
			"`podman image inspect --format '{{.Digest}}' NAME` shows it")
		if tagged := plainImage().FindString(s); tagged != "" {
			d.root = Fact{"# image = " + quote(tagged+"@sha256:…"), where(n)}
		}
	}
}

// rooted says whether the base has a root that an image does not replace.
func (d *draft) rooted() bool {
	b := d.options.Merged
	return b != nil && (b.Agent.Rootfs != "" || b.Agent.Containerfile != "")
}

var plainImage = lazily(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,200}$`)

func (d *draft) build(n node) {
	d.unless(n, Dropped, "the agent runs on this machine's own system, read-only; containerfile = \"PATH\" in [agent] builds an image, "+
		"of files from the top of the repository, and the agent's own program must be in it")
}

// runArgs finds limits among the options of docker run. Values of the others are not shown: they may hold variables.
func (d *draft) runArgs(list node) {
	if !list.isList() {
		d.unless(list, Dropped, "it should be a list")
		return
	}
	args := list.elements()
	for i := 0; i < len(args); i++ {
		s, _ := args[i].text()
		flag, value, joined := strings.Cut(s, "=")
		n := args[i]
		if !joined && i+1 < len(args) && takesValue(flag) {
			i++
			value, _ = args[i].text()
		}
		if d.limitArg(n, flag, value) || flag == "--init" || flag == "--rm" {
			continue
		}
		if !plainFlag().MatchString(flag) {
			flag = "this option"
		}
		d.note(n, Dropped, "%s has no counterpart", flag)
	}
}

var plainFlag = lazily(`^--?[a-z][a-z-]{0,40}$`)

// takesValue names the options of docker run that stand by themselves; all others take a value.
func takesValue(flag string) bool {
	switch flag {
	case "--init", "--rm", "--privileged", "--read-only", "--tty", "--interactive", "-t", "-i", "-it", "--no-healthcheck", "-d", "--detach", "-P", "--publish-all":
		return false
	}
	return strings.HasPrefix(flag, "-")
}

var (
	wholeNumber = lazily(`^[0-9]{1,7}$`)
	decimal     = lazily(`^[0-9]{1,3}(\.[0-9]{1,3})?$`)
	dockerSize  = lazily(`^([0-9]{1,6})([bkmgBKMG])?[bB]?$`)
)

// limitArg takes an option that limits, when its value is one that [limits] takes.
func (d *draft) limitArg(n node, flag, value string) bool {
	set := func(key, toml string, good bool) bool {
		if good {
			if d.limits == nil {
				d.limits = map[string]Fact{}
			}
			d.limits[key] = Fact{toml, where(n)}
		}
		return good
	}
	switch flag {
	case "--pids-limit":
		return set("pids", value, wholeNumber().MatchString(value) && between(value, 8, 4194304))
	case "--cpus":
		return set("cpus", withPoint(value), decimal().MatchString(value) && between(value, 0.01, 4096))
	case "--memory", "-m":
		m := dockerSize().FindStringSubmatch(value)
		if m == nil {
			return false
		}
		unit := map[string]string{"k": "KiB", "m": "MiB", "g": "GiB"}[strings.ToLower(m[2])]
		return set("memory", quote(trimZeros(m[1])+unit), unit != "" && bigEnough(m[1], unit))
	}
	return false
}

func between(number string, low, high float64) bool {
	f, err := strconv.ParseFloat(number, 64)
	return err == nil && f >= low && f <= high
}

// withPoint writes a number as TOML's kind of number that has a fraction.
func withPoint(number string) string {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return number
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

func trimZeros(number string) string { return strings.TrimLeft(number, "0") }

// bigEnough holds a size against the least that [limits] takes, 16MiB.
func bigEnough(number, unit string) bool {
	least := map[string]float64{"KiB": 16 << 10, "MiB": 16, "GiB": 1}[unit]
	return between(number, least, 1e6)
}
