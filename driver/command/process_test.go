package command_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmw-cloudinit-metadata/driver/command"
	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

const vmUUID = "5012f6b4-1d7c-4b1e-9c3a-0242ac120002"

func open(t *testing.T, config command.Config) *command.Driver {
	t.Helper()
	config.Trouble = func(err error) { t.Log("trouble:", err) }
	d, err := command.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func example(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "examples", "drivers", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPythonExample(t *testing.T) {
	testenv.Need(t, "python3")
	d := open(t, command.Config{Command: []string{example(t, "driver.py")}})
	instance, err := d.Find(t.Context(), metadata.VM{Name: "web-7"})
	if err != nil || instance.Network["address"] != "192.168.1.7/24" || instance.MetaData["hostname"] != "web-7" {
		t.Errorf("got %+v, %v", instance, err)
	}
	for _, name := range []string{"", "web-0", "web-201", "web-x", "db-1", "web-1\n{}", `web-"`, "web-\x00\xff"} {
		if _, err := d.Find(t.Context(), metadata.VM{Name: name}); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("%q: got %v, want ErrNotFound", name, err)
		}
	}
}

func TestShellExample(t *testing.T) {
	testenv.Need(t, "base64")
	dir := t.TempDir()
	document := "metadata:\n  hostname: \"web1\"\nuserdata: |\n  #!/bin/sh\n  printf 'a\\nb' # \\\n"
	if err := os.WriteFile(filepath.Join(dir, vmUUID+".yaml"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, command.Config{Command: []string{example(t, "driver.sh"), dir}})
	instance, err := d.Find(t.Context(), metadata.VM{UUID: vmUUID, Name: `","uuid":"../x`})
	if err != nil || string(instance.UserData) != "#!/bin/sh\nprintf 'a\\nb' # \\\n" || instance.MetaData["hostname"] != "web1" {
		t.Errorf("got %+v, %v", instance, err)
	}
	for _, name := range []string{"web1", `","uuid":"` + vmUUID + `"`, "a\nb", "-n", "\\c"} {
		if _, err := d.Find(t.Context(), metadata.VM{Name: name}); !errors.Is(err, metadata.ErrNotFound) {
			t.Errorf("%q without a UUID: got %v, want ErrNotFound", name, err)
		}
	}
}

func TestNoSuchProgram(t *testing.T) {
	for _, program := range []string{"/nonexistent/driver", "no-such-driver-anywhere", "./relative", t.TempDir()} {
		if _, err := command.New(command.Config{Command: []string{program}}); !errors.Is(err, command.ErrNoCommand) {
			t.Errorf("%s: got %v, want ErrNoCommand", program, err)
		}
	}
	if _, err := command.New(command.Config{}); err == nil {
		t.Error("no command at all is taken")
	}
}

// The system says "no such file" of the program, whatever is not there; we say what.
func TestCannotStart(t *testing.T) {
	sh := testenv.Need(t, "sh")[0]
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, folder := range []string{filepath.Join(dir, "nowhere"), script("file", "")} {
		if _, err := command.New(command.Config{Command: []string{sh}, Dir: folder}); !errors.Is(err, command.ErrNoCommand) || !strings.Contains(err.Error(), "its directory: ") {
			t.Errorf("directory %s: got %v", folder, err)
		}
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	for what, program := range map[string]string{
		"its first line (#!)": script("interpreter", "#!/nonexistent/python\n"),
		"line feed alone":     script("crlf", "#!"+sh+"\r\necho\r\n"),
		"such as #!/bin/sh":   script("bare", "echo\n"),
		"its directory: stat": script("gone", "#!"+sh+"\nrmdir "+work+"\n"), // at its second start
	} {
		trouble := make(chan error, 100)
		d, err := command.New(command.Config{Command: []string{program}, Dir: work, Trouble: func(err error) {
			select {
			case trouble <- err:
			default:
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for late := time.After(30 * time.Second); ; {
			select {
			case err = <-trouble:
			case <-late:
				t.Fatalf("the trouble was never like %q, but %v", what, err)
			}
			if strings.Contains(err.Error(), what) {
				break
			}
		}
		d.Close()
		_ = os.Mkdir(work, 0o700) // which the last one may have removed
	}
}

// A program that ends while its own child holds its pipes open is seen to end, with its status and its last words.
func TestRealProcess(t *testing.T) {
	sh := testenv.Need(t, "sh")[0]
	lines := make(chan string, 10)
	d := open(t, command.Config{
		Command: []string{sh, "-c", `echo "greeting: $GREETING" >&2; echo '{"vmw-cloudinit-driver": 1}'; sleep 1000 & echo "child: $!" >&2; read -r line; exit 3`},
		Env:     []string{"GREETING=hello"},
		Stderr:  func(line string) { lines <- line },
	})
	if got := <-lines; got != "greeting: hello" {
		t.Errorf("stderr: %q", got)
	}
	var pid int
	fmt.Sscanf(<-lines, "child: %d", &pid)
	start := time.Now()
	_, err := d.Find(t.Context(), metadata.VM{Name: "web1"})
	if !errors.Is(err, command.ErrGone) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want ErrGone with the exit status", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %s: a child that holds the pipes open must not delay it so", took)
	}
	if p, err := os.FindProcess(pid); err == nil && pid > 1 {
		p.Kill()
	}
}

func TestCloseKills(t *testing.T) {
	sh := testenv.Need(t, "sh")[0]
	lines := make(chan string, 10)
	d := open(t, command.Config{
		Command: []string{sh, "-c", `trap '' TERM; echo '{"vmw-cloudinit-driver": 1}'; echo up >&2; exec sleep 1000`},
		Stderr:  func(line string) { lines <- line },
	})
	<-lines
	start := time.Now()
	d.Close()
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("Close took %s", took)
	}
}

// A program's own children, which it leaves behind with its pipes, do not keep the server's end.
func TestCloseDoesNotWaitForChildrenLeftBehind(t *testing.T) {
	sh := testenv.Need(t, "sh")[0]
	lines := make(chan string, 10)
	d := open(t, command.Config{
		Command: []string{sh, "-c", `sleep 1000 & echo "child: $!" >&2; echo '{"vmw-cloudinit-driver": 1}'; read -r line`},
		Stderr:  func(line string) { lines <- line },
	})
	var pid int
	if _, err := fmt.Sscanf(<-lines, "child: %d", &pid); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	d.Close()
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Close took %s", took)
	}
	child, err := os.FindProcess(pid)
	if err == nil {
		err = child.Kill()
	}
	if err != nil {
		t.Errorf("the child is not left alone: %v", err)
	}
}

// contractDriver is a program that holds the contract's records, in a file that is its argument.
const contractDriver = `
import json, sys
records = json.load(open(sys.argv[1]))
print('{"vmw-cloudinit-driver": 1}', flush=True)
for line in sys.stdin:
    vm = json.loads(line)
    answer = {"id": vm["id"], "error": "not-found"}
    for record in records:
        if record["UUID"] and record["UUID"] == vm["uuid"]:
            answer = {"id": vm["id"], "document": record["Document"]}
            break
        if record["Name"] and record["Name"] == vm["name"]:
            answer = {"id": vm["id"], "document": record["Document"]}
    print(json.dumps(answer), flush=True)
`

func TestContract(t *testing.T) {
	python := testenv.Need(t, "python3")[0]
	metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
		file := filepath.Join(t.TempDir(), "records.json")
		data, err := json.Marshal(records)
		if err == nil {
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return open(t, command.Config{Command: []string{python, "-c", contractDriver, file}})
	}})
}

// brokenDriver is a program with the fault that is its argument, for the VM that suffers.
const brokenDriver = `
import json, os, sys, threading, time
fault, victim, document, planted = sys.argv[1:]
print('{"vmw-cloudinit-driver": 1}', flush=True)
def late(answer):
    time.sleep(0.8)
    print(answer, flush=True)
for line in sys.stdin:
    vm = json.loads(line)
    answer = json.dumps({"id": vm["id"], "document": document})
    if vm["uuid"] == victim:
        if fault == "slow":
            threading.Thread(target=late, args=(answer,), daemon=True).start()
            continue
        if fault == "hanging":
            continue
        if fault == "dying":
            sys.stdout.write(answer[:20] + planted)
            sys.stdout.flush()
            os._exit(3)
        if fault == "lying":
            print(planted)
            answer = json.dumps({"id": vm["id"] + 1000, "document": document})
        if fault == "huge":
            answer = json.dumps({"id": vm["id"], "document": planted * 650000})
    print(answer, flush=True)
`

func TestFaults(t *testing.T) {
	python := testenv.Need(t, "python3")[0]
	metadatatest.Faults{
		Have:   []metadatatest.Fault{metadatatest.Slow, metadatatest.Hanging, metadatatest.Dying, metadatatest.Lying, metadatatest.Huge},
		Shared: []metadatatest.Fault{metadatatest.Dying}, // one program serves all
		New: func(t *testing.T, fault metadatatest.Fault) metadata.Driver {
			d := open(t, command.Config{
				Command: []string{python, "-c", brokenDriver, string(fault), metadatatest.Victim, metadatatest.GoodDocument(), metadatatest.Planted},
				Timeout: 5 * time.Second,
			})
			for range 10 { // a busy machine may take its time to start Python
				if _, err := d.Find(t.Context(), metadata.VM{UUID: metadatatest.Bystander}); err == nil {
					return d
				}
			}
			t.Fatal("the program does not come up")
			return nil
		},
	}.Run(t)
}
