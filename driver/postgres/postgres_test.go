package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"vmw-cloudinit-metadata/driver/postgres"
	"vmw-cloudinit-metadata/internal/testenv"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/metadata/metadatatest"
)

const (
	uuid1 = "421338a5-0a6a-b9b4-b647-3007991cf1d6"
	uuid2 = "42130000-1111-2222-3333-44445555666b"
)

// server is a PostgreSQL of our own, on a unix socket.
type server struct {
	folder string
	ctl    string
	run    *syscall.SysProcAttr
}

func start(t *testing.T) *server {
	t.Helper()
	tools := testenv.Need(t, "initdb", "pg_ctl", "postgres")
	folder, err := os.MkdirTemp("", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	s := &server{folder: folder, ctl: tools[1]}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		if err := os.Chown(folder, uid, gid); err != nil {
			t.Fatal(err)
		}
		s.run = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	s.command(t, tools[0], "-D", filepath.Join(folder, "data"), "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync")
	s.up(t)
	t.Cleanup(func() { s.down(t, "immediate") })
	return s
}

func (s *server) command(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.SysProcAttr, cmd.Env = s.folder, s.run, append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (s *server) up(t *testing.T) {
	t.Helper()
	s.command(t, s.ctl, "-D", filepath.Join(s.folder, "data"), "-l", filepath.Join(s.folder, "log"), "-w", "-o",
		fmt.Sprintf("-F -k %s -c listen_addresses=", s.folder), "start")
}

func (s *server) down(t *testing.T, mode string) {
	t.Helper()
	cmd := exec.Command(s.ctl, "-D", filepath.Join(s.folder, "data"), "-m", mode, "stop")
	cmd.Dir, cmd.SysProcAttr = s.folder, s.run
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "no server running") && !strings.Contains(string(out), "does not exist") {
		t.Errorf("pg_ctl stop: %v\n%s", err, out)
	}
}

func (s *server) dsn() string { return "host=" + s.folder + " user=test dbname=postgres" }

func (s *server) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// count returns the number that a query gives.
func (s *server) count(t *testing.T, query string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func open(t *testing.T, config postgres.Config) *postgres.Driver {
	t.Helper()
	d, err := postgres.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// All that one server is enough for.
func TestPostgres(t *testing.T) {
	s := start(t)
	t.Run("contract", func(t *testing.T) {
		for _, kind := range []string{"text", "bytea"} {
			t.Run(kind, func(t *testing.T) { testContract(t, s, kind) })
		}
	})
	t.Run("columns", func(t *testing.T) { testColumns(t, s) })
	t.Run("queries", func(t *testing.T) { testQueries(t, s) })
	t.Run("lookalikes", func(t *testing.T) { testLookalikes(t, s) })
	t.Run("encoding", func(t *testing.T) { testEncoding(t, s) })
	t.Run("list", func(t *testing.T) { testList(t, s) })
	t.Run("faults", func(t *testing.T) { testFaults(t, s) })
	t.Run("lost connections", func(t *testing.T) { testLostConnections(t, s) })
	t.Run("several hosts", func(t *testing.T) { testSeveralHosts(t, s) })
	t.Run("documentation", func(t *testing.T) { testDocumentation(t, s) })
	t.Run("outage", func(t *testing.T) { testOutage(t, s) }) // the last: it stops the server
}

func testContract(t *testing.T, s *server, kind string) {
	metadatatest.Run(t, metadatatest.Suite{New: func(t *testing.T, records []metadatatest.Record) metadata.Driver {
		s.exec(t, "DROP TABLE IF EXISTS contract")
		s.exec(t, "CREATE TABLE contract (uuid uuid, name text, document "+kind+")")
		for _, r := range records {
			s.exec(t, "INSERT INTO contract VALUES (nullif($1, '')::uuid, nullif($2, ''), $3)", r.UUID, r.Name, []byte(r.Document))
		}
		return open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT document FROM contract WHERE uuid = $1 OR name = $2 ORDER BY uuid = $1 LIMIT 1"})
	}})
}

func testColumns(t *testing.T, s *server) {
	s.exec(t, `CREATE TABLE parts (name text, metadata jsonb, network json, userdata bytea, vendordata text)`)
	s.exec(t, `INSERT INTO parts VALUES
		('full', '{"instance-id": "0123", "tags": ["a"], "x": {"y": [1, 2.5, true, null]}}', '{"address": "192.0.2.7/24"}', '\x2321ff00', '#cloud-config')`)
	s.exec(t, `INSERT INTO parts (name, metadata) VALUES ('bare', null), ('list', '[]'), ('text', '"text"')`)
	d := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT metadata, network, userdata, vendordata FROM parts WHERE name = $2 AND $1::text IS NULL"})
	instance, err := d.Find(t.Context(), metadata.VM{Name: "full"})
	if err != nil {
		t.Fatal(err)
	}
	wantMeta := map[string]any{"instance-id": "0123", "tags": []any{"a"}, "x": map[string]any{"y": []any{int64(1), 2.5, true, nil}}}
	if !reflect.DeepEqual(instance.MetaData, wantMeta) || instance.Network["address"] != "192.0.2.7/24" {
		t.Errorf("got %v and %v", instance.MetaData, instance.Network)
	}
	if string(instance.UserData) != "#!\xff\x00" || string(instance.VendorData) != "#cloud-config" {
		t.Errorf("got %q and %q", instance.UserData, instance.VendorData)
	}
	for path, want := range map[string]string{"network.address": `row of "full", column network`, "": `row of "full"`} {
		if got := instance.Origin.Locate(path); got != want {
			t.Errorf("Locate(%q) = %s, want %s", path, got, want)
		}
	}
	bare, err := d.Find(t.Context(), metadata.VM{Name: "bare"})
	if err != nil || bare.MetaData != nil || bare.Network != nil || bare.UserData != nil || bare.VendorData != nil {
		t.Errorf("NULLs: %+v, %v, want an instance without data", bare, err)
	}
	for name, want := range map[string]string{
		"list": `row of "list", column metadata: metadata: must be a mapping`,
		"text": `row of "text", column metadata: metadata: must be a mapping`,
	} {
		if _, err := d.Find(t.Context(), metadata.VM{Name: name}); !errors.Is(err, metadata.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

func testQueries(t *testing.T, s *server) {
	vm := metadata.VM{UUID: uuid1, Name: "web1", BIOSUUID: uuid2}
	for _, c := range []struct{ name, query, want string }{
		{"all parameters", "SELECT json_build_object('userdata', concat($1::uuid, $2::text, $3::uuid, $4::uuid)) AS document", ""},
		{"no parameters", "SELECT '{}' AS document", ""},
		{"no row", "SELECT '{}' AS document WHERE false", "no data for this VM"},
		{"two rows", "SELECT '{}' AS document FROM generate_series(1, 2)", "more than one row"},
		{"rows without end", "SELECT '{}' AS document FROM (SELECT generate_series(1, 1000000000)) AS vms", "more than one row"},
		{"rows of other columns", "SELECT 1 AS meta FROM (SELECT generate_series(1, 1000000000)) AS vms", "must be one named document"},
		{"NULL", "SELECT NULL::text AS document", "the document is NULL"},
		{"unknown column", "SELECT '{}' AS metadata, 1 AS meta", "must be one named document"},
		{"column twice", "SELECT '{}' AS metadata, '{}' AS metadata", "each once"},
		{"document and more", "SELECT '{}' AS document, '{}' AS metadata", "must be one named document"},
		{"not a query", "SET application_name = 'x'", "gives no row"},
		{"no columns", "SELECT", ""},
		{"syntax", "SELEKT 1", "the database says 42601"},
		{"no such table", "SELECT document FROM nowhere", "the database says 42P01"},
		{"YAML in a part", "SELECT 'a: b' AS metadata", "is not JSON: only the column document takes YAML"},
		{"out of the part", `SELECT '{}}, "userdata": {"a": 1' AS metadata`, "is not JSON"},
		{"huge", "SELECT repeat('x', 20000000) AS document", "is larger than 4 MiB"},
		{"fails with data", "SELECT ('secret' || $2)::int::text AS document", `the database says "22P02"`},
	} {
		d := open(t, postgres.Config{DSN: s.dsn(), Query: c.query})
		for range 2 {
			instance, err := d.Find(t.Context(), vm)
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %+v, %v, want %q", c.name, instance, err, c.want)
			}
		}
	}
	d := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT json_build_object('userdata', concat($1::uuid, $2::text, $3::uuid, $4::uuid)) AS document"})
	if instance, err := d.Find(t.Context(), vm); err != nil || string(instance.UserData) != uuid1+"web1"+uuid2 {
		t.Errorf("got %+v, %v, want each parameter in its place", instance, err)
	}
}

// A database in another encoding than UTF-8 gives and takes UTF-8.
func testEncoding(t *testing.T, s *server) {
	s.exec(t, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	query := "SELECT 'name: ' || chr(233) AS userdata WHERE $2 = chr(233) OR $1::text IS NOT NULL AND $2 IS NULL"
	d := open(t, postgres.Config{DSN: "host=" + s.folder + " user=test dbname=latin", Query: query})
	for name, vm := range map[string]metadata.VM{
		"a name":                                {Name: "é"},
		"a UUID, and a name that it can't hold": {Name: "日本", UUID: uuid1},
	} {
		if instance, err := d.Find(t.Context(), vm); err != nil || string(instance.UserData) != "name: é" {
			t.Errorf("%s: got %+v, %v", name, instance, err)
		}
	}
	if instance, err := d.Find(t.Context(), metadata.VM{Name: "日本"}); !errors.Is(err, metadata.ErrNotFound) {
		t.Errorf("a name that it can't hold: got %+v, %v, want not found", instance, err)
	}
}

func testList(t *testing.T, s *server) {
	s.exec(t, "CREATE TABLE listed (uuid uuid, name text, document text)")
	s.exec(t, "INSERT INTO listed VALUES ($1, NULL, '{}'), (NULL, 'web2', '{}'), ($2, 'web3', 'bad: 1')", uuid1, uuid2)
	d := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT document FROM listed WHERE uuid = $1 OR name = $2", List: "SELECT uuid::text, name FROM listed ORDER BY name NULLS FIRST"})
	var got []string
	for entry, err := range d.All(t.Context()) {
		got = append(got, fmt.Sprint(entry.Key, " ", entry.VM, " ", errors.Is(err, metadata.ErrInvalid)))
	}
	want := []string{
		"row of " + uuid1 + " " + uuid1 + " false",
		`row of "web2" "web2" false`,
		"row of " + uuid2 + ` "web3" (` + uuid2 + `) true`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	// A pooler may give each statement another connection of the database's: none may rest on one prepared before.
	unprepared := " WHERE NOT EXISTS (SELECT FROM pg_prepared_statements)"
	pooled := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT document FROM listed" + unprepared + " LIMIT 1", List: "SELECT uuid, name FROM listed" + unprepared})
	listed := 0
	for entry, err := range pooled.All(t.Context()) {
		if err != nil {
			t.Errorf("%s, with nothing prepared: %v", entry.Key, err)
		}
		listed++
	}
	if listed != len(want) {
		t.Errorf("with nothing prepared %d VMs are listed, want %d", listed, len(want))
	}
	for list, want := range map[string]string{
		"": `the option "list" is missing`, "SELECT 1 AS x": "must have the columns uuid", "SELECT": "must have the columns uuid", "nonsense": "the database says 42601",
	} {
		for entry, err := range open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT '{}' AS document", List: list}).All(t.Context()) {
			if entry.Key != "" || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, %v, want %q", list, entry, err, want)
			}
		}
	}
}

// outageOnly checks that an error says no more than that the data could not be had.
func outageOnly(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid) || errors.Is(err, metadata.ErrDenied) {
		t.Errorf("%s: got %v, want an error that is none of the contract's", what, err)
	}
	if text := fmt.Sprint(err); strings.Contains(text, "hunter2") || strings.ContainsAny(text, "\n\t") {
		t.Errorf("%s: the error is %q: it must be one line without the password", what, text)
	}
}

func testFaults(t *testing.T, s *server) {
	queries := map[metadatatest.Fault]string{
		metadatatest.Slow:    "(SELECT $$GOOD$$ FROM pg_sleep(0.8))",
		metadatatest.Hanging: "(SELECT '' FROM pg_sleep(3600))",
		metadatatest.Dying:   "(SELECT pg_terminate_backend(pg_backend_pid())::text)",
		metadatatest.Lying:   "('PLANTED' || $1)::int::text",
		metadatatest.Huge:    "repeat('PLANTED', 10000000)",
	}
	metadatatest.Faults{
		Have: slices.Collect(maps.Keys(queries)),
		New: func(t *testing.T, fault metadatatest.Fault) metadata.Driver {
			query := "SELECT CASE WHEN $1 = 'VICTIM' THEN " + queries[fault] + " ELSE $$GOOD$$ END AS document"
			query = strings.NewReplacer("VICTIM", metadatatest.Victim, "GOOD", metadatatest.GoodDocument(), "PLANTED", metadatatest.Planted).Replace(query)
			return open(t, postgres.Config{DSN: s.dsn(), Query: query, Timeout: 2 * time.Second})
		},
	}.Run(t)
	slow := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT '{}' AS document FROM pg_sleep(CASE WHEN $2 = 'slow' THEN 60 ELSE 0 END)", Timeout: 300 * time.Millisecond})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := slow.Find(t.Context(), metadata.VM{Name: "slow"})
			outageOnly(t, "slow", err)
		})
	}
	for range 4 {
		wg.Go(func() {
			if _, err := slow.Find(t.Context(), metadata.VM{Name: "web1"}); err != nil {
				t.Errorf("beside slow ones: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := slow.Find(t.Context(), metadata.VM{Name: "web1"}); err != nil { // there is a connection from now on
		t.Error(err)
	}
	if _, err := slow.Find(t.Context(), metadata.VM{Name: "slow"}); fmt.Sprint(err) != "postgres: no end of the query within 300ms" {
		t.Errorf("slow, with a connection: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := slow.Find(ctx, metadata.VM{Name: "slow"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller with less time got %v", err)
	}

	crowded := open(t, postgres.Config{
		DSN: s.dsn(), MaxConnections: 1, Timeout: 300 * time.Millisecond, Query: "SELECT '{}' AS document",
		List: "SELECT 'crowded'::text AS uuid, NULL AS name FROM pg_sleep(3600)",
	})
	listing, end := context.WithCancel(t.Context())
	defer end()
	wg.Go(func() {
		for range crowded.All(listing) {
		}
	})
	for s.count(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%crowded%'") == 0 {
	}
	if _, err := crowded.Find(t.Context(), metadata.VM{Name: "web1"}); fmt.Sprint(err) != "postgres: no free connection (max-connections is 1) within 300ms" {
		t.Errorf("with no connection free: got %v", err)
	}
	end()
	wg.Wait()

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	host, port, _ := net.SplitHostPort(silent.Addr().String())
	for what, dsn := range map[string]string{
		"hanging":        fmt.Sprintf("postgres://test:hunter2@%s:%s/x?sslmode=disable", host, port),
		"nobody there":   "postgres://test:hunter2@127.0.0.1:1/x",
		"wrong database": s.dsn() + "x password=hunter2",
	} {
		start := time.Now()
		_, err := open(t, postgres.Config{DSN: dsn, Query: "SELECT '{}' AS document", Timeout: 300 * time.Millisecond}).Find(t.Context(), metadata.VM{Name: "web1"})
		outageOnly(t, what, err)
		if want := "postgres: no connection to " + net.JoinHostPort(host, port) + " within 300ms"; what == "hanging" && fmt.Sprint(err) != want {
			t.Errorf("hanging: got %v, want %s", err, want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", what, took)
		}
	}
	liar, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		for {
			conn, err := liar.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()
	_, err = open(t, postgres.Config{DSN: "postgres://test:hunter2@" + liar.Addr().String() + "/x?sslmode=disable", Query: "SELECT 1"}).Find(t.Context(), metadata.VM{Name: "web1"})
	outageOnly(t, "lying", err)
}

// Connections that a fail-over or a firewall has cut off without a word cost a look-up time, but not all that it has.
func testLostConnections(t *testing.T, s *server) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var cut atomic.Pointer[chan struct{}] // closed for the connections made until then
	carry := func(from, to net.Conn, cut <-chan struct{}) {
		for buffer := make([]byte, 32<<10); ; {
			n, err := from.Read(buffer)
			select {
			case <-cut:
				return
			default:
			}
			if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
				from.Close()
				to.Close()
				return
			}
		}
	}
	former := make(chan struct{})
	cut.Store(&former)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { client.Close() })
			server, err := net.Dial("unix", filepath.Join(s.folder, ".s.PGSQL.5432"))
			if err != nil {
				client.Close()
				continue
			}
			go carry(client, server, *cut.Load())
			go carry(server, client, *cut.Load())
		}
	}()
	d := open(t, postgres.Config{
		DSN:            "postgres://test@" + listener.Addr().String() + "/postgres?sslmode=disable",
		Query:          "SELECT '{}' AS document FROM pg_sleep(CASE WHEN $2 = 'slow' THEN 0.5 ELSE 0 END)",
		MaxConnections: 3, Timeout: 8 * time.Second,
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := d.Find(t.Context(), metadata.VM{Name: "slow"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	later := make(chan struct{})
	cut.Store(&later)
	close(former)
	s.exec(t, "SELECT pg_sleep(1.5)") // connections in use a second ago are taken to be there still
	if _, err := d.Find(t.Context(), metadata.VM{Name: "web1"}); err != nil {
		t.Errorf("with the connections lost: %v", err)
	}
}

// The first host of a DSN is gone and says nothing: the second one is asked while the look-up still waits.
func testSeveralHosts(t *testing.T, s *server) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, port, _ := net.SplitHostPort(silent.Addr().String())
	dsn := fmt.Sprintf("host=127.0.0.1,%s port=%s,5432 user=test dbname=postgres sslmode=disable", s.folder, port)
	for what, config := range map[string]postgres.Config{
		"by itself":            {DSN: dsn, Timeout: 4 * time.Second},
		"with connect_timeout": {DSN: dsn + " connect_timeout=1", Timeout: 20 * time.Second},
	} {
		config.Query = "SELECT '{}' AS document"
		began := time.Now()
		_, err := open(t, config).Find(t.Context(), metadata.VM{Name: "web1"})
		if took := time.Since(began); err != nil || took > 8*time.Second {
			t.Errorf("%s: %v after %s", what, err, took)
		}
	}
}

func testOutage(t *testing.T, s *server) {
	d := open(t, postgres.Config{DSN: s.dsn(), Query: "SELECT '{}' AS document", MaxConnections: 2})
	find := func() error {
		_, err := d.Find(t.Context(), metadata.VM{Name: "web1"})
		return err
	}
	if err := find(); err != nil {
		t.Fatal(err)
	}
	s.down(t, "immediate")
	outageOnly(t, "while it is down", find())
	s.up(t)
	var err error
	for range 3 { // connections that died with it may each cost one look-up
		if err = find(); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for options, want := range map[string]string{
		`{}`:                "postgres: option dsn: is missing",
		`{"dsn": "host=x"}`: "postgres: option query: is missing",
		`{"dsn": "postgres://u:hunter2@[x/", "query": "SELECT 1"}`:              "is no connection string",
		`{"dsn": "host=x password=hunter2 sslmode=maybe", "query": "SELECT 1"}`: "is no connection string",
		`{"dsn": "host=x", "query": "SELECT 1", "max-connections": -1}`:         "must be from 1 to 1000",
		`{"dsn": "host=x", "query": "SELECT $5"}`:                               "option query: has a parameter $5",
		`{"dsn": "host=x", "qurey": "SELECT 1"}`:                                "did you mean query?",
		`{"dsn": "host=x", "query": "SELECT 1", "timeout": "soon"}`:             "option timeout: a duration",
	} {
		config, err := postgres.ParseConfig([]byte(options))
		if err == nil {
			_, err = postgres.New(config)
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", options, err, want)
		}
	}
}
