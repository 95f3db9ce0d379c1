// Package postgres is a driver for data in a PostgreSQL database: the row that a query of the user's own gives for a VM.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"vmw-cloudinit-metadata/internal/late"
	"vmw-cloudinit-metadata/internal/options"
	"vmw-cloudinit-metadata/metadata"
	"vmw-cloudinit-metadata/vmfile"
)

// What a zero Config means.
const (
	DefaultTimeout        = 5 * time.Second
	DefaultMaxConnections = 8
)

const (
	// documentColumn is the one column of a query that gives whole documents.
	documentColumn = "document"
	// maxParameters is how many parameters a query may have: the fields of metadata.VM.
	maxParameters = 4
	// nameIndex is the place of the VM's name among them.
	nameIndex = 1
	// maxIdle is how long a connection is kept that is not in use: shorter than firewalls keep it.
	maxIdle = time.Minute
	// pingShare is the share of a look-up's time in which a connection that was not in use has to show that it is still there:
	// one of them that is lost must not cost the look-up.
	pingShare = 5
	// maxShown bounds what an error shows of the database's own message, in bytes.
	maxShown = 300
)

// areas are the columns of a query that gives a VM's data in parts.
func areas() []string { return []string{"metadata", "network", "userdata", "vendordata"} }

// Config says where the data is. DSN and Query are required.
type Config struct {
	// DSN is a connection string of libpq: "postgres://user@host/database", or "host=… dbname=…". What it leaves out
	// comes from the environment (PGPASSWORD, PGPASSFILE …) as in psql.
	DSN string
	// Query gives the VM's row. Its parameters are $1, the VC UUID, $2, the name, $3, the BIOS UUID, and $4, the
	// location UUID; what is not known is NULL. Its columns are either document, in the file format, or some of
	// metadata, network, userdata and vendordata.
	Query string
	// List, if not empty, is a query for all VMs, with the columns uuid and name.
	List string
	// Timeout bounds one look-up, DefaultTimeout if 0.
	Timeout time.Duration
	// MaxConnections bounds the connections to the database, DefaultMaxConnections if 0.
	MaxConnections int
}

// ParseConfig reads a Config from a JSON object. Its keys are dsn, query, list, timeout and max-connections.
func ParseConfig(data json.RawMessage) (Config, error) {
	var o struct {
		DSN            string           `json:"dsn"`
		Query          string           `json:"query"`
		List           string           `json:"list"`
		Timeout        options.Duration `json:"timeout"`
		MaxConnections int              `json:"max-connections"`
	}
	if err := options.Decode(data, &o); err != nil {
		return Config{}, fmt.Errorf("postgres: %w", err)
	}
	return Config{DSN: o.DSN, Query: o.Query, List: o.List, Timeout: time.Duration(o.Timeout), MaxConnections: o.MaxConnections}, nil
}

// Driver asks a database.
type Driver struct {
	config Config
	types  []uint32 // of the query's parameters
	pool   *pgxpool.Pool
}

// New returns a driver. The database need not be there yet. Close it after use.
func New(config Config) (*Driver, error) {
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.MaxConnections == 0 {
		config.MaxConnections = DefaultMaxConnections
	}
	switch {
	case config.DSN == "":
		return nil, fmt.Errorf("postgres: %w", &options.Error{Key: "dsn", Problem: "is missing: the database, as in postgres://user@host/database"})
	case strings.TrimSpace(config.Query) == "":
		return nil, fmt.Errorf("postgres: %w", &options.Error{Key: "query", Problem: "is missing, as in SELECT document FROM vms WHERE uuid = $1 OR name = $2"})
	case config.MaxConnections < 0 || config.MaxConnections > 1000:
		return nil, fmt.Errorf("postgres: %w", &options.Error{Key: "max-connections", Problem: "must be from 1 to 1000"})
	}
	pool, err := pgxpool.ParseConfig(config.DSN)
	if err != nil { // its text may hold a part of the DSN
		return nil, fmt.Errorf("postgres: %w", &options.Error{Key: "dsn", Problem: "is no connection string of PostgreSQL, or a file that it names can't be read"})
	}
	pool.MaxConns = int32(config.MaxConnections) // at most 1000, see above
	limit := connectTimeout(&pool.ConnConfig.Config, config.Timeout)
	if asked := pool.ConnConfig.ConnectTimeout; asked == 0 || asked > limit {
		pool.ConnConfig.ConnectTimeout = limit
	}
	pool.MaxConnIdleTime = min(pool.MaxConnIdleTime, maxIdle)
	if pool.PingTimeout == 0 {
		pool.PingTimeout = config.Timeout / pingShare
	}
	if pool.ConnConfig.RuntimeParams["application_name"] == "" {
		pool.ConnConfig.RuntimeParams["application_name"] = "vmw-cloudinit-metadata"
	}
	pool.ConnConfig.RuntimeParams["client_encoding"] = "UTF8" // what all else here is in; without it, it is the database's own
	d := &Driver{config: config}
	if d.types, err = parameterTypes(config.Query); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if d.pool, err = pgxpool.NewWithConfig(context.Background(), pool); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return d, nil
}

// connectTimeout is how long one of the hosts may take, so that within a look-up's time all can be asked, and the query made.
func connectTimeout(config *pgconn.Config, lookUp time.Duration) time.Duration {
	type place struct {
		host string
		port uint16
	}
	places := map[place]struct{}{{config.Host, config.Port}: {}}
	for _, other := range config.Fallbacks { // the same host again, too, without TLS
		places[place{other.Host, other.Port}] = struct{}{}
	}
	if len(places) == 1 {
		return lookUp
	}
	return lookUp / time.Duration(len(places)+1)
}

// Close ends the connections, after the look-ups under way.
func (d *Driver) Close() error {
	d.pool.Close()
	return nil
}

// Find runs the query for vm.
func (d *Driver) Find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	timed, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	instance, err := d.find(timed, vm)
	if ctx.Err() != nil && err != nil && !isAnswer(err) {
		return nil, ctx.Err()
	}
	return instance, err
}

func isAnswer(err error) bool {
	return errors.Is(err, metadata.ErrNotFound) || errors.Is(err, metadata.ErrInvalid)
}

func (d *Driver) find(ctx context.Context, vm metadata.VM) (*metadata.Instance, error) {
	connection, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, explain(d.noConnection(err))
	}
	defer connection.Release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Values go both ways as text, which the database reads as what the query makes of it, uuid or text.
	count := len(d.types)
	for values := parameters(vm); ; values[nameIndex] = nil {
		rows := connection.Conn().PgConn().ExecParams(ctx, d.config.Query, values[:count], d.types, make([]int16, count), []int16{pgx.TextFormatCode})
		instance, err := readRows(rows, vm)
		if rows.NextRow() { // err says what is wrong already; there may be millions more
			cancel()
			rows.Close()
			return nil, err
		}
		_, closing := rows.Close()
		switch {
		case closing == nil:
			return instance, err
		case !isUntranslatable(closing) || values[nameIndex] == nil:
			return nil, explain(d.noAnswer(closing))
		}
	}
}

// noConnection says of an err that is the end of Config.Timeout why there was no connection until then.
func (d *Driver) noConnection(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if stat := d.pool.Stat(); stat.AcquiredConns() == stat.MaxConns() {
		return &late.Error{Limit: d.config.Timeout, Missing: fmt.Sprintf("free connection (max-connections is %d)", stat.MaxConns())}
	}
	config := &d.pool.Config().ConnConfig.Config
	hosts := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, other := range config.Fallbacks {
		hosts = append(hosts, net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))))
	}
	hosts = slices.Compact(hosts)
	if _, perHost := errors.AsType[*pgconn.ConnectError](err); perHost && len(hosts) > 1 {
		return err
	}
	return &late.Error{Limit: d.config.Timeout, Missing: "connection to " + strings.Join(hosts, ", ")}
}

// noAnswer says so of an err that is the end of Config.Timeout.
func (d *Driver) noAnswer(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &late.Error{Limit: d.config.Timeout, Missing: "end of the query"}
}

// isUntranslatable is for a character that the database's encoding lacks. A name that has one is in no row.
func isUntranslatable(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "22P05"
}

// readRows makes an Instance of the one row.
func readRows(rows *pgconn.ResultReader, vm metadata.VM) (*metadata.Instance, error) {
	if !rows.NextRow() {
		return nil, fmt.Errorf("postgres: the query gives no row: %w", metadata.ErrNotFound)
	}
	if err := checkColumns(rows.FieldDescriptions()); err != nil {
		return nil, err
	}
	instance, err := readRow(rows.FieldDescriptions(), rows.Values(), vm)
	if rows.NextRow() {
		return nil, &metadata.DataError{Origin: rowName(vm), Problem: "the query gives more than one row for this VM: order them, and add LIMIT 1"}
	}
	return instance, err
}

// parameterTypes returns the types of the query's parameters as far as we set them: to text for one that is left out,
// about which the database can't know; the others are its business.
func parameterTypes(query string) ([]uint32, error) {
	const textOID = 25
	var types []uint32
	for _, parameter := range placeholders(query) {
		n, err := strconv.Atoi(parameter[1:])
		if err != nil || n < 1 || n > maxParameters {
			return nil, &options.Error{Key: "query", Problem: "has a parameter " + parameter + ": there are $1, the UUID, $2, the name, $3, the BIOS UUID, and $4, the location UUID"}
		}
		for len(types) < n {
			types = append(types, textOID)
		}
		types[n-1] = 0
	}
	return types, nil
}

// parameters are a VM's fields, with NULL for what is not known. A name that no text of PostgreSQL can be is not known,
// nor is one that is some VM's UUID: a query that compares one value with both columns must not mix them up.
func parameters(vm metadata.VM) [][]byte {
	values := make([][]byte, 0, maxParameters)
	for _, uuid := range []string{vm.UUID, vm.BIOSUUID, vm.LocationUUID} {
		if parsed, ok := metadata.ParseUUID(uuid); ok && parsed == uuid {
			values = append(values, []byte(uuid))
		} else {
			values = append(values, nil)
		}
	}
	var name []byte
	if _, isUUID := metadata.ParseUUID(vm.Name); vm.Name != "" && !isUUID && utf8.ValidString(vm.Name) && !strings.ContainsRune(vm.Name, 0) {
		name = []byte(vm.Name)
	}
	return slices.Insert(values, nameIndex, name)
}

// checkColumns refuses what is neither a document nor a VM's data in parts.
func checkColumns(fields []pgconn.FieldDescription) error {
	names := make([]string, 0, len(fields))
	for _, field := range fields {
		names = append(names, field.Name)
	}
	if slices.Equal(names, []string{documentColumn}) {
		return nil
	}
	for i, name := range names {
		if !slices.Contains(areas(), name) || slices.Contains(names[:i], name) {
			return fmt.Errorf("postgres: the query's columns are %.200q: they must be one named document, or some of %s, each once", names, strings.Join(areas(), ", "))
		}
	}
	return nil
}

// rowName stands for a VM's row in positions.
func rowName(vm metadata.VM) string {
	if vm.UUID != "" {
		return "row of " + vm.UUID
	}
	return fmt.Sprintf("row of %q", vm.Name)
}

// readRow makes an Instance of a row, whose values came as text.
func readRow(fields []pgconn.FieldDescription, values [][]byte, vm metadata.VM) (*metadata.Instance, error) {
	if len(fields) == 0 {
		return &metadata.Instance{}, nil
	}
	if fields[0].Name == documentColumn {
		if values[0] == nil {
			return nil, &metadata.DataError{Origin: rowName(vm), Problem: "the document is NULL"}
		}
		document, err := asBytes(fields[0], values[0])
		if err != nil {
			return nil, &metadata.DataError{Origin: rowName(vm), Problem: err.Error()}
		}
		return vmfile.Parse(rowName(vm), document)
	}
	instance := &metadata.Instance{}
	from := origin(rowName(vm))
	for i, field := range fields {
		if values[i] == nil {
			continue
		}
		value, err := asBytes(field, values[i])
		if err != nil {
			return nil, &metadata.DataError{Origin: from.Locate(field.Name), Problem: err.Error()}
		}
		switch field.Name {
		case "userdata":
			instance.UserData = value
		case "vendordata":
			instance.VendorData = value
		default:
			part, err := parseArea(from.Locate(field.Name), field.Name, value)
			if err != nil {
				return nil, err
			}
			if part.MetaData != nil {
				instance.MetaData = part.MetaData
			}
			if part.Network != nil {
				instance.Network = part.Network
			}
		}
	}
	instance.Origin = from
	return instance, nil
}

// asBytes returns a column's value. It is copied: the row's memory is used again.
func asBytes(field pgconn.FieldDescription, text []byte) ([]byte, error) {
	if len(text) > 2*vmfile.MaxSize+2 {
		return nil, fmt.Errorf("column %s is larger than %d MiB", field.Name, vmfile.MaxSize>>20)
	}
	const byteaOID = 17
	if field.DataTypeOID != byteaOID {
		return slices.Clone(text), nil
	}
	return decodeBytea(text)
}

// All implements metadata.Lister with the List query; without one it yields an error.
func (d *Driver) All(ctx context.Context) iter.Seq2[metadata.Entry, error] {
	return func(yield func(metadata.Entry, error) bool) {
		if d.config.List == "" {
			yield(metadata.Entry{}, errors.New(`postgres: the option "list" is missing: a query for the uuid and name of all VMs`))
			return
		}
		vms, err := d.list(ctx)
		if err != nil {
			yield(metadata.Entry{}, err)
			return
		}
		for _, vm := range vms {
			entry := metadata.Entry{Key: rowName(vm), VM: vm}
			entry.Instance, err = d.Find(ctx, vm)
			if ctx.Err() != nil {
				yield(metadata.Entry{}, ctx.Err())
				return
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

func (d *Driver) list(ctx context.Context) ([]metadata.VM, error) {
	rows, err := d.pool.Query(ctx, d.config.List, pgx.QueryExecModeExec) // with nothing prepared, for poolers
	if err != nil && ctx.Err() == nil {
		err = d.noConnection(err)
	}
	if err != nil {
		return nil, explain(err)
	}
	type row struct {
		UUID *string `db:"uuid"`
		Name *string `db:"name"`
	}
	listed, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		if _, ok := errors.AsType[*pgconn.PgError](err); !ok && ctx.Err() == nil {
			return nil, errors.New("postgres: the list must have the columns uuid (of type uuid or text) and name (of type text)")
		}
		return nil, explain(err)
	}
	vms := make([]metadata.VM, 0, len(listed))
	for _, r := range listed {
		var vm metadata.VM
		if r.UUID != nil {
			vm.UUID, _ = metadata.ParseUUID(*r.UUID)
		}
		if r.Name != nil {
			vm.Name = *r.Name
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

// wordy are the classes of PostgreSQL's error codes (its appendix A) whose messages are about the query, the login or the
// server's state. Those of others quote values: data.
func wordy() []string {
	return []string{"08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
}

// explain makes an error of the database's that shows no data. An error in reaching it names user, host and database.
func explain(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if len(e.Code) < 2 || !slices.Contains(wordy(), e.Code[:2]) {
			return fmt.Errorf("postgres: the database says %.5q; its own log has more", e.Code)
		}
		return fmt.Errorf("postgres: the database says %s: %.*q", e.Code, maxShown, e.Message)
	}
	return fmt.Errorf("postgres: %w", oneLine{err})
}

// oneLine is an error without line breaks in its text.
type oneLine struct{ err error }

func (e oneLine) Error() string {
	return strings.Join(strings.Fields(e.err.Error()), " ")
}

func (e oneLine) Unwrap() error { return e.err }
