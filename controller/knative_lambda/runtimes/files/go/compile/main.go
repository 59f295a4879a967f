// Makes one program of a function and the shim. Run by the Dockerfile and by local mode, on a copy of the function.
//
// runtime.json names package and function. The function's own go.mod stays what it is but for the shim that is added
// to it; without one, a module of its own is made, and the shim's requirements are there for it to import. What no
// module of go.mod provides is refused rather than fetched in whatever version is the latest.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

const (
	shim = "knative-lambda.invalid/shim"
	made = "knative_lambda_main"
)

type order struct {
	Package  string
	Function string
	shim     string
	root     string
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "compile SHIM RUNTIME.JSON FUNCTION OUTPUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(shimFolder, entry, root, output string) error {
	output, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	asked, err := read(shimFolder, entry, root)
	if err != nil {
		return err
	}
	files := token.NewFileSet()
	imports, err := asked.imports(files)
	if err != nil {
		return err
	}
	if err := asked.join(); err != nil {
		return err
	}
	if err := asked.provided(imports, files); err != nil {
		return err
	}
	place, err := asked.writeMain()
	if err != nil {
		return err
	}
	return asked.goes("build", "-ldflags=-s -w", "-o", output, place)
}

func read(shimFolder, entry, root string) (*order, error) {
	content, err := os.ReadFile(entry)
	if err != nil {
		return nil, err
	}
	asked := &order{}
	if err := json.Unmarshal(content, asked); err != nil {
		return nil, err
	}
	if !token.IsIdentifier(asked.Function) {
		return nil, fmt.Errorf("the handler's function %q is no name in Go", asked.Function)
	}
	if asked.shim, err = filepath.Abs(shimFolder); err != nil {
		return nil, err
	}
	asked.root, err = filepath.Abs(root)
	return asked, err
}

// join adds the shim to the function's module, which is made when there is none.
func (o *order) join() error {
	place := filepath.Join(o.root, "go.mod")
	if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) {
		parts := strings.SplitN(strings.TrimPrefix(runtime.Version(), "go"), ".", 3)
		text := fmt.Sprintf("module function\n\ngo %s\n", strings.Join(parts[:min(2, len(parts))], "."))
		if err := os.WriteFile(place, []byte(text), 0o644); err != nil {
			return err
		}
	}
	beside, err := filepath.Rel(o.root, o.shim) // the program names it: no path of this machine
	if err != nil {
		return err
	}
	place = "./" + filepath.ToSlash(beside)
	if err := o.goes("mod", "edit", "-require="+shim+"@v0.0.0", "-replace="+shim+"="+place); err != nil {
		return err
	}
	sums := filepath.Join(o.root, "go.sum")
	own, err := os.ReadFile(sums)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours, err := os.ReadFile(filepath.Join(o.shim, "go.sum"))
	if err != nil {
		return err
	}
	return os.WriteFile(sums, slices.Concat(own, []byte("\n"), ours), 0o644)
}

// imports are those of all packages of the module but its tests: path to where it stands.
func (o *order) imports(files *token.FileSet) (map[string]token.Pos, error) {
	found := map[string]token.Pos{}
	err := filepath.WalkDir(o.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || (entry.IsDir() && path == o.root) {
			return err
		}
		if entry.IsDir() {
			return o.enters(path, entry.Name())
		}
		return importsOf(path, files, found)
	})
	return found, err
}

// enters skips what the go command does not take for packages of this module.
func (o *order) enters(path, name string) error {
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	if err == nil || name == "vendor" || name == "testdata" || name[0] == '.' || name[0] == '_' {
		return fs.SkipDir
	}
	return nil
}

func importsOf(path string, files *token.FileSet, found map[string]token.Pos) error {
	folder, name := filepath.Split(path)
	if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
		return nil
	}
	if counts, err := build.Default.MatchFile(folder, name); err != nil || !counts {
		return nil // whether it must be readable decides go build
	}
	parsed, err := parser.ParseFile(files, path, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, one := range parsed.Imports {
		if plain, err := strconv.Unquote(one.Path.Value); err == nil {
			found[plain] = one.Pos()
		}
	}
	return nil
}

// provided is an error that names the imports that come from nowhere.
func (o *order) provided(imports map[string]token.Pos, files *token.FileSet) error {
	listed, err := o.says("list", "-m", "-f", "{{.Path}}", "all")
	if err != nil {
		return err
	}
	known := strings.Fields(listed)
	var missing []string
	for path, where := range imports {
		within := func(module string) bool { return path == module || strings.HasPrefix(path, module+"/") }
		first, _, _ := strings.Cut(path, "/")
		if !strings.Contains(first, ".") || slices.ContainsFunc(known, within) {
			continue
		}
		at := files.Position(where)
		at.Filename, _ = filepath.Rel(o.root, at.Filename)
		missing = append(missing, fmt.Sprintf("%v: no module of go.mod provides %s: "+
			"run `go get %s` and commit go.mod and go.sum", at, path, path))
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		return errors.New(strings.Join(missing, "\n"))
	}
	return nil
}

// writeMain adds the main function, and gives the folder to build. A package main cannot be imported: it gets it in its
// own folder, every other package one beside it.
func (o *order) writeMain() (string, error) {
	folder := filepath.Join(o.root, filepath.FromSlash(o.Package))
	found, err := build.Default.ImportDir(folder, 0)
	if err != nil {
		return "", fmt.Errorf("the package %s: %w", o.Package, err)
	}
	if err := o.check(found, folder); err != nil {
		return "", err
	}
	if found.Name == "main" {
		text := fmt.Sprintf("package main\n\nimport %s %q\n\nfunc main() { %s.Serve(%s) }\n", made, shim, made, o.Function)
		return "./" + o.Package, os.WriteFile(filepath.Join(folder, made+".go"), []byte(text), 0o644)
	}
	module, err := o.says("list", "-m")
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(strings.TrimSpace(module)+"/"+o.Package, "/.")
	text := fmt.Sprintf("package main\n\nimport (\n\tshim %q\n\tfunction %q\n)\n\nfunc main() { shim.Serve(function.%s) }\n",
		shim, path, o.Function)
	if err := os.Mkdir(filepath.Join(o.root, made), 0o755); err != nil {
		return "", err
	}
	return "./" + made, os.WriteFile(filepath.Join(o.root, made, "main.go"), []byte(text), 0o644)
}

// check says in plain words what the compiler would say of code that nobody wrote.
func (o *order) check(found *build.Package, folder string) error {
	names := map[string]bool{}
	for _, file := range found.GoFiles {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, file), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declared := range parsed.Decls {
			collect(declared, names)
		}
	}
	switch {
	case !names[o.Function]:
		return fmt.Errorf("the package %s has no function %s", o.Package, o.Function)
	case found.Name != "main" && !ast.IsExported(o.Function):
		return fmt.Errorf("the function %s cannot be seen outside its package: begin its name with a capital", o.Function)
	case found.Name == "main" && names["main"]:
		return errors.New("the function's package main has a function main of its own: leave it out, the server is added")
	}
	return nil
}

func collect(declared ast.Decl, names map[string]bool) {
	switch one := declared.(type) {
	case *ast.FuncDecl:
		if one.Recv == nil {
			names[one.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, part := range one.Specs {
			if values, ok := part.(*ast.ValueSpec); ok {
				for _, name := range values.Names {
					names[name.Name] = true
				}
			}
		}
	}
}

func (o *order) goes(arguments ...string) error {
	command := o.command(arguments)
	command.Stdout = os.Stdout
	return failure(command.Run(), arguments)
}

func (o *order) says(arguments ...string) (string, error) {
	answer, err := o.command(arguments).Output()
	return string(answer), failure(err, arguments)
}

func failure(err error, arguments []string) error {
	if err != nil {
		return fmt.Errorf("go %s failed: %w", arguments[0], err)
	}
	return nil
}

// command is the go command in the function's module: whatever is missing in go.mod for the shim's sake is added, no
// other toolchain is fetched, and the program depends on no library and names no path of this machine.
func (o *order) command(arguments []string) *exec.Cmd {
	command := exec.Command("go", arguments...)
	command.Dir = o.root
	command.Stderr = os.Stderr
	flags := "-mod=mod -trimpath -buildvcs=false -modcacherw"
	command.Env = append(os.Environ(), "GOFLAGS="+flags, "GOWORK=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
	return command
}
