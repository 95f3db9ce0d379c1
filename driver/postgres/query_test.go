package postgres_test

import (
	"strings"
	"testing"

	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/metadata"
)

// lookalikes are queries with $1 or $2, and with what only looks like another parameter.
func lookalikes() []string {
	const value = "json_build_object('metadata', json_build_object('name', $2::text)) AS document"
	return []string{
		"SELECT " + value + " -- not $5, nor $4",
		"-- $5 ' \" /* $$\nSELECT " + value,
		"-- $5\rSELECT " + value,
		"SELECT /* $5 /* $6 */ ' $7 */ " + value + " /**/",
		"SELECT " + value + " WHERE 'it''s $5 -- /*' <> $1::text",
		"SELECT " + value + ` WHERE E'\\' <> '$5' AND E'it\'s $5 \\' <> e'''$6\\'`,
		"SELECT " + value + ` WHERE 'back\' <> '$5'`,
		"SELECT " + value + " WHERE $$it's $5$$ <> $tag$ $5 $$ $6 $tag$ AND $ä_1$ $5 $ä_1$ <> ''",
		"SELECT " + value + ` FROM (SELECT 1 AS "col $5 "" $6", 2 AS col$7, 3 AS größe$8) AS vms WHERE col$7 = 2 AND größe$8=3`,
		"SELECT " + value + ` WHERE U&'\0024 $5' <> B'1'::text AND N'$5' <> ''`,
		"SELECT " + value + " WHERE true/*$5*/AND-1<1--$6",
	}
}

func testLookalikes(t *testing.T, s *server) {
	for _, query := range lookalikes() {
		d := open(t, postgres.Config{DSN: s.dsn(), Query: query})
		if instance, err := d.Find(t.Context(), metadata.VM{UUID: uuid1, Name: "web1"}); err != nil || instance.MetaData["name"] != "web1" {
			t.Errorf("%s: got %+v, %v, want it to have its own parameters alone", query, instance, err)
		}
	}
}

func TestParametersThatThereAreNot(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT '$1', $$$2$$, $12":          "$12",
		"/* /* */ $1 */ SELECT 1=$0":        "$0",
		"SELECT 'a''b'+$9999999999999999":   "$9999999999999999",
		`SELECT "a"$5`:                      "$5",
		"SELECT 1-- $6\n,$7":                "$7",
		`SELECT E'\'$5', $8`:                "$8",
		"SELECT a$5, $a$ $6 $A$ $a$, $9 ''": "$9",
	} {
		_, err := postgres.New(postgres.Config{DSN: "host=x", Query: query})
		if err == nil || !strings.Contains(err.Error(), "option query: has a parameter "+want+":") {
			t.Errorf("%s: got %v, want it to be about %s", query, err, want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, query := range lookalikes() {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		d, err := postgres.New(postgres.Config{DSN: "host=/nowhere", Query: query})
		if err == nil {
			d.Close()
		} else if strings.TrimSpace(query) != "" && !strings.Contains(err.Error(), "has a parameter $") {
			t.Errorf("%q: %v", query, err)
		}
	})
}
