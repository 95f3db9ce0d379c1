package options

import (
	"testing"
	"time"
)

type config struct {
	Directory string   `json:"directory"`
	Command   []string `json:"command"`
	Timeout   Duration `json:"timeout"`
	TLS       struct {
		CA string `json:"ca"`
	} `json:"tls"`
	Hook func() `json:"-"`
}

func TestDecode(t *testing.T) {
	var c config
	err := Decode([]byte(` {"directory": "/srv", "command": ["a", "b"], "timeout": "1m30s", "tls": {"ca": "ca.pem"}} `), &c)
	if err != nil || c.Directory != "/srv" || len(c.Command) != 2 || time.Duration(c.Timeout) != 90*time.Second || c.TLS.CA != "ca.pem" {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, none := range []string{"", " \n", "{}"} {
		if err := Decode([]byte(none), &c); err != nil {
			t.Errorf("%q: %v", none, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for options, want := range map[string]string{
		`[]`:                                `the options must be a JSON object, such as {"directory": "/srv/metadata"}`,
		`{"directry": "/srv"}`:              `option directry: there is no such option: did you mean directory?`,
		`{"hook": 1}`:                       `option hook: there is no such option: known are directory, command, timeout, tls`,
		`{"tls": {"cb": ""}}`:               `option tls.cb: there is no such option: known are ca`,
		`{"directory": 1}`:                  `option directory: must be text, not number`,
		`{"command": "a b"}`:                `option command: must be a list, not string`,
		`{"tls": []}`:                       `option tls: must be an object, not array`,
		`{"timeout": 5}`:                    `option timeout: a duration is written as a number with its unit, such as "5s" or "1m30s"`,
		`{"timeout": "-5s"}`:                `option timeout: a duration is written as a number with its unit, such as "5s" or "1m30s"`,
		`{"directory": "a", "directory":1}`: `option directory: is there twice: remove one`,
		`{"directory": "a"} {}`:             `there is more after the options' closing brace`,
		`{"directory": "a"`:                 `not valid JSON at character 17: unexpected EOF`,
		`{"directory": a}`:                  `not valid JSON at character 14: invalid character 'a' looking for beginning of value`,
	} {
		var c config
		if err := Decode([]byte(options), &c); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", options, err, want)
		}
	}
}
