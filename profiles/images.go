package profiles

import (
	"embed"
	"strings"
)

//go:embed images
var images embed.FS

// ImagePrefix begins a containerfile that is a built-in one.
const ImagePrefix = "builtin:"

// Image is a built-in Containerfile.
type Image struct {
	Name string
	Text []byte
	Args map[string]string
}

// Images are the built-in ones, in the order of their list.
func Images() (all []Image) {
	list, _ := images.ReadFile("images/images.txt") // it is embedded
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		i := Image{Name: f[0], Args: map[string]string{}}
		file := "images/" + i.Name + ".containerfile"
		if len(f) == 3 {
			file, i.Args = "images/agent.containerfile", map[string]string{"PACKAGE": f[1], "VERSION": f[2]}
		}
		i.Text, _ = images.ReadFile(file)
		all = append(all, i)
	}
	return all
}

// FindImage gives a built-in image by its name.
func FindImage(name string) (Image, bool) {
	for _, i := range Images() {
		if i.Name == name {
			return i, true
		}
	}
	return Image{}, false
}
