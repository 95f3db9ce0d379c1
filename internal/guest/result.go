package guest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"vmw-cloudinit-metadata/packet"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"
	Failed      Outcome = "failed"      // something local: the seed can't be written
	NotFound    Outcome = "not-found"   // the server has nothing for this machine
	Denied      Outcome = "denied"      // this machine may not have it
	Unreachable Outcome = "unreachable" // there is a port, and nobody answered
	NoPort      Outcome = "no-port"     // there is no port that a server could be behind
	Invalid     Outcome = "invalid"     // the server's data is wrong
	Unavailable Outcome = "unavailable" // the server answers, and can't find out
	Busy        Outcome = "busy"        // another program has the port
)

// ExitCode is the program's exit code. 2 is kept for wrong usage.
func (o Outcome) ExitCode() int {
	switch o {
	case OK:
		return 0
	case NotFound:
		return 3
	case Denied:
		return 4
	case Unreachable:
		return 5
	case NoPort:
		return 6
	case Invalid:
		return 7
	case Unavailable:
		return 8
	case Busy:
		return 9
	}
	return 1
}

// OutcomeOf says which outcome an error of a Client stands for.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return OK
	}
	if failed, ok := errors.AsType[*packet.Error](err); ok {
		switch failed.Code {
		case packet.NotFound:
			return NotFound
		case packet.Denied:
			return Denied
		case packet.Invalid:
			return Invalid
		case packet.Unavailable:
			return Unavailable
		}
		return Unreachable
	}
	if errors.Is(err, errBroken) {
		return Invalid
	}
	return Unreachable
}

// What became of the seed.
const (
	SeedWritten   = "written"
	SeedUnchanged = "unchanged"
	SeedKept      = "kept"     // an earlier boot's
	SeedIdentity  = "identity" // written from cloud-init's cache
	SeedRemoved   = "removed"  // it was another machine's
	SeedNone      = "none"
)

// The values of Result.Boot: whether cloud-init has an instance cached.
const (
	first = "first"
	later = "later"
)

// Result is what a run of Seed leaves behind. None of it is secret.
type Result struct {
	Result     Outcome                    `json:"result"`
	Seed       string                     `json:"seed"`
	Message    string                     `json:"message"`
	Device     string                     `json:"device,omitempty"`
	Protocol   int                        `json:"protocol,omitempty"`
	Boot       string                     `json:"boot"`
	InstanceID string                     `json:"instance_id,omitempty"`
	Generation string                     `json:"generation,omitempty"`
	Documents  map[packet.Document]Length `json:"documents,omitempty"`
	Started    time.Time                  `json:"started"`
	Seconds    float64                    `json:"seconds"`
	Retries    int                        `json:"retries"`
}

// Length is a document's size in bytes.
type Length struct {
	Size int `json:"size"`
}

// Save writes the result to path, whole or not at all. Everybody may read it. A device is written to
// and stays what it is.
func (r *Result) Save(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeInto(path, append(data, '\n'))
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".result-")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// writeInto writes to a device or a pipe. One that takes nothing must not hang a boot.
func writeInto(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|nonBlocking, 0)
	if err != nil {
		return err
	}
	_ = f.SetWriteDeadline(time.Now().Add(time.Second)) // what can't wait has none
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
